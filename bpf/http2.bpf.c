// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Count and time the requests of HTTP/2 and gRPC connections, however many are in flight at once.
 *
 *   segment --> frames --> header blocks --> fields (http2_fields.h) --.
 *                 '------> data, resets, ends of streams --------------+--> streams (http2_streams.h) --> request_stats
 *
 * traffic.bpf.c finds out that a connection speaks HTTP/2 and calls these programs for its segments. Frames and header
 * blocks may be cut anywhere: every state is kept with the socket. The maps are those of traffic.bpf.c.
 *
 * Reference: RFC 9113; gRPC over HTTP/2, doc/PROTOCOL-HTTP2.md of grpc.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "traffic_layout.h"
#include "cpu_layout.h"
#include "packet.h"
#include "http1.h"
#include "counting.h"
#include "routes.h"
#include "http1_stream.h"
#include "connection.h"
#include "turn.h"
#include "answers.h"
#include "huffman.h"
#include "http2_connection.h"
#include "http2_fields.h"
#include "http2_start.h"
#include "http2_streams.h"
#include "http2_frames.h"
#include "http2_order.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PASS 1
#define MOST_AHEAD 0x10000 /* numbers that a stream may be further than the last one seen */

/* Whether a segment that begins so is where the reading can go on: bodies are full of bytes that look like frames. */
static __always_inline bool may_resume(struct __sk_buff *skb, struct http2 *h, const __u8 *header, __u32 length)
{
	__u32 stream = frame_stream(header);
	bool is_whole = frame_length(header) + FRAME_HEADER_BYTES <= length;
	if (!is_frame_header(header))
		return false;
	switch (header[3]) {
	case FRAME_DATA:
		return find_slot(skb, h, stream, stream);
	case FRAME_HEADERS:
		return is_whole && stream & 1 && (!h->last_stream || stream < h->last_stream + MOST_AHEAD);
	case FRAME_PUSH_PROMISE:
	case FRAME_CONTINUATION:
		return false;
	}
	return is_whole && header[3] < FRAME_CONTINUATION;
}

/* The first segment, or the first one after the step was lost. */
static __always_inline void find_step(struct __sk_buff *skb, struct connection *conn, struct http2 *h, bool is_answer,
				      __u32 offset, __u32 length)
{
	struct frames *d = frames_of(h, is_answer);
	__u8 header[FRAME_HEADER_BYTES] = {};
	__u32 preface_bytes = is_answer ? 0 : preface_left(skb, offset, length);
	d->header_bytes = 0;
	if (preface_bytes) {
		d->state = SKIPPED;
		d->type = FRAME_NONE;
		d->left = preface_bytes;
		/* on an upgraded connection the answers may have begun */
		if (h->answers.state == OUT_OF_STEP && conn->key.status != 101)
			h->answers.state = FRAME_HEADER;
	} else if (length >= FRAME_HEADER_BYTES && !bpf_skb_load_bytes(skb, offset, header, FRAME_HEADER_BYTES)) {
		__u64 word = word_at(header);
		__u32 method_bytes;
		if (may_resume(skb, h, header, length)) {
			d->state = FRAME_HEADER;
			h->lost |= is_answer ? 0 : UNSEEN_REQUESTS;
		} else if (!h->proved && !is_answer && method_of(word, &method_bytes) != METHOD_NONE) {
			conn->phase = BETWEEN; /* it was HTTP/1 after all */
		}
	}
}

static __always_inline void read_segment(struct __sk_buff *skb, struct connection *conn, enum direction direction)
{
	__u32 offset = skb->cb[0], length = skb->cb[1], sequence = skb->cb[2];
	struct bpf_sock *sk = skb->sk;
	if (!conn || !sk)
		return;
	struct http2 *h = made_with(&http2_connections, sk);
	if (!h) {
		lose(LOSS_NO_SOCKET_STATE);
		return;
	}
	bool is_answer = direction != (conn->key.role == ROLE_SERVER ? INGRESS : EGRESS);
	struct frames *d = frames_of(h, is_answer);
	__u32 next = conn->next_sequence[direction] ?: sequence;
	if ((__s32)(sequence - next) > 0 && !skip_to(skb, h, is_answer, direction, offset, length, sequence, &next))
		return;
	__u32 seen = next - sequence;
	if (seen >= length)
		return; /* it came again */
	offset += seen;
	length -= seen;
	next += length;
	conn->next_sequence[direction] = next;
	if (d->state == OUT_OF_STEP)
		find_step(skb, conn, h, is_answer, offset, length);
	__u32 left = read_frames(skb, (__u64)length << 32 | offset, h, is_answer);
	if (left && d->state != OUT_OF_STEP) {
		if (left < length) {
			conn->next_sequence[direction] = next - left;
			hand_over(skb, offset + length - left, left, direction, next - left);
			conn->next_sequence[direction] = next; /* it was one call too many */
		}
		lose(LOSS_LONG_SEGMENT);
		lose_step(h, is_answer);
	}
	if (direction == INGRESS && h->holds)
		conn->next_sequence[direction] = read_held(skb, h, is_answer, next);
}

SEC("cgroup_skb/ingress")
int http2_ingress(struct __sk_buff *skb)
{
	struct connection *conn = connection_at(skb);
	read_segment(skb, conn, INGRESS);
	if (conn) /* taken in traffic.bpf.c */
		end_turn(conn);
	return PASS;
}

SEC("cgroup_skb/egress")
int http2_egress(struct __sk_buff *skb)
{
	read_segment(skb, connection_at(skb), EGRESS);
	return PASS;
}
