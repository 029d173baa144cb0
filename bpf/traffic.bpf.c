// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Count and time HTTP/1.x requests where their packets pass a socket's cgroup.
 *
 *      packet in  --> observe(INGRESS) --.                          .--> request_stats
 *                                        +--> socket's connection --+
 *      packet out --> observe(EGRESS)  --'      (sk_storage)        '--> losses
 *
 * Nearly every request is plain: its head, without a body, is one segment, and the answer comes
 * before the next one. It is taken at one glance: the head opens it, the first "HTTP/1." line in the
 * other direction closes it. Whatever is not plain is read byte by byte (conversation.h).
 *
 * A request that comes in makes this socket the server's end, one that goes out the client's. The
 * clock runs from the packet that brings the request's first byte to the packet that carries the
 * answer's last byte, so the time a throttled container waits before it even reads the request is inside.
 *
 * Passive: every packet passes (return 1), nothing of it is changed.
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
#include "http2_start.h"
#include "early.h"
#include "listening.h"
#include "conversation.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PASS 1


/* In a function of its own, as route_at. */
__noinline int is_plain_head(__u32 direction, __u32 length)
{
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	return head && is_plain(head, length);
}

static __always_inline bool follows_empty_lines(const char *bytes)
{
	__u32 method_bytes;
	if (bytes[0] != '\r' && bytes[0] != '\n')
		return false;
	return method_of(word_at(&bytes[2]), &method_bytes) || method_of(word_at(&bytes[4]), &method_bytes);
}

/* What of a head is behind its first HEAD_BYTES: only a request is worth it. False when it is too long for a glance. */
static __always_inline bool load_rest(struct __sk_buff *skb, struct head *head, __u32 offset, __u32 length)
{
	__u32 rest = length - HEAD_BYTES;
	if (length <= HEAD_BYTES)
		return true;
	return load_bytes(skb, offset + HEAD_BYTES, head->bytes + HEAD_BYTES, rest, PLAIN_BYTES - HEAD_BYTES);
}

/* Whether the frame at the beginning of a segment is its last, or another one follows. */
static __always_inline bool is_followed(struct __sk_buff *skb, const struct head *head, __u32 offset, __u32 length)
{
	__u32 end = FRAME_HEADER_BYTES + frame_length((const __u8 *)head->bytes);
	__u8 next[FRAME_HEADER_BYTES];
	if (end + FRAME_HEADER_BYTES > length)
		return end == length;
	return !bpf_skb_load_bytes(skb, offset + end, next, FRAME_HEADER_BYTES) && is_frame_header(next) &&
	       next[3] <= FRAME_CONTINUATION;
}

/* Whether a segment that is no HTTP/1 request belongs to an HTTP/2 connection, at whose beginning or later. */
static __always_inline bool speaks_http2(struct __sk_buff *skb, struct connection *conn, struct bpf_sock *sk,
					 const struct head *head, __u32 offset, __u32 length, enum direction direction)
{
	enum speaker speaker = NOBODY;
	if (begins_preface(word_at(head->bytes), length))
		speaker = A_CLIENT;
	else if (length > FRAME_HEADER_BYTES && !head->bytes[0]) /* no frame is longer than 65,535 bytes unless agreed upon */
		speaker = is_followed(skb, head, offset, length) ? speaker_of(head, length) : NOBODY;
	if (speaker == NOBODY)
		return false;
	if (!conn->key.cgroup_id)
		conn->key.cgroup_id = bpf_sk_cgroup_id(sk);
	conn->key.role = (speaker == A_CLIENT) == (direction == INGRESS) ? ROLE_SERVER : ROLE_CLIENT;
	conn->phase = MULTIPLEXED;
	return true;
}

enum opened { NO_REQUEST, OPENED, TO_BE_READ };

/* A segment that may open a request. */
static __always_inline enum opened open_request(struct __sk_buff *skb, struct connection *conn, struct bpf_sock *sk,
						__u32 offset, __u32 length, enum direction direction)
{
	__u32 slot = direction, method_bytes = 0;
	struct head *head = bpf_map_lookup_elem(&heads, &slot);
	__u32 head_bytes = length < HEAD_BYTES ? length : HEAD_BYTES;
	if (!head || !load_bytes(skb, offset, head->bytes, head_bytes, HEAD_BYTES))
		return NO_REQUEST;
	enum method method = method_of(word_at(head->bytes), &method_bytes);
	if (method == METHOD_NONE && speaks_http2(skb, conn, sk, head, offset, length, direction))
		return NO_REQUEST;
	bool is_piece = head_bytes < REQUEST_MIN_BYTES || follows_empty_lines(head->bytes);
	__u32 known = head_bytes < 8 ? head_bytes : 8;
	if (is_piece ? !may_be_method(word_at(head->bytes), known) : method == METHOD_NONE)
		return NO_REQUEST;
	bool plain = !is_piece && load_rest(skb, head, offset, length) && is_plain_head(direction, length);
	if (!conn->key.cgroup_id)
		conn->key.cgroup_id = bpf_sk_cgroup_id(sk);
	conn->key.role = direction == INGRESS ? ROLE_SERVER : ROLE_CLIENT;
	if (!plain)
		return TO_BE_READ;
	conn->followed = conn->answered;
	conn->start_ns = bpf_ktime_get_ns();
	conn->key.route = route_at(direction, method_bytes, head_bytes, conn->key.route, owner_of(&conn->key));
	conn->key.method = method;
	conn->key.status = 0;
	conn->request_bytes = length < 0xffff ? length : 0xffff;
	conn->answered = 0;
	conn->phase = AWAITING_ANSWER;
	return OPENED;
}

/* The status in this segment's first line, or 0. */
static __always_inline __u16 read_status(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	struct { __u64 word; __u32 digits; } line;
	if (length < STATUS_LINE_BYTES || bpf_skb_load_bytes(skb, offset, &line, STATUS_LINE_BYTES))
		return 0;
	return status_of(line.word, line.digits);
}

static __always_inline void close_request(struct connection *conn, __u16 status, __u32 length)
{
	/* A copy: as soon as the phase says so, the other direction may open the next request. */
	struct request_key key = conn->key;
	__u64 start_ns = conn->start_ns;
	__u32 request_bytes = conn->request_bytes, after = opens_tunnel(status, key.method) ? TUNNEL : BETWEEN;
	if (__sync_val_compare_and_swap(&conn->phase, AWAITING_ANSWER, after) != AWAITING_ANSWER)
		return; /* it waits in the ring by now */
	conn->key.status = key.status = status;
	__u64 now = bpf_ktime_get_ns();
	conn->took_units = latency_units(now - start_ns);
	conn->answered = book(&key, start_ns, now, request_bytes, length);
}

/* Cut what was seen before off the front of a segment; 0 when nothing new is left. */
static __always_inline __u32 unseen(struct connection *conn, enum direction direction,
				    __u32 sequence, __u32 *offset, __u32 length, __u32 *gap)
{
	__u32 end = sequence + length;
	if (!conn->next_sequence[direction]) {
		conn->next_sequence[direction] = end;
		return length;
	}
	__s32 ahead = sequence - conn->next_sequence[direction];
	if (ahead > 0)
		*gap = ahead;
	if ((__s32)(end - conn->next_sequence[direction]) <= 0)
		return 0; /* a retransmission, or a segment that a later one overtook */
	conn->next_sequence[direction] = end;
	if (ahead >= 0)
		return length;
	*offset += -ahead;
	return length + ahead;
}

/* The answer to a plain request; false when it has to be read. */
static __always_inline bool take_answer(struct __sk_buff *skb, struct connection *conn, __u32 offset, __u32 length,
					__u32 gap)
{
	__u16 status = read_status(skb, offset, length);
	if (length < STATUS_LINE_BYTES || (status && status < 200 && status != 101) || (!status && (conn->followed || gap)))
		return false;
	if (gap)
		lose(LOSS_SEQUENCE_GAP);
	if (status)
		close_request(conn, status, length);
	else
		conn->phase = BETWEEN; /* not HTTP after all */
	return true;
}

static __always_inline void payload(struct __sk_buff *skb, struct connection *conn, struct bpf_sock *sk, __u32 offset,
				    __u32 length, enum direction direction, __u32 gap)
{
	bool is_answer = direction != (conn->key.role == ROLE_SERVER ? INGRESS : EGRESS);
	__u64 where = (__u64)length << 32 | offset;

	if (conn->phase == TUNNEL) {
		if (!is_answer && preface_left(skb, offset, length) == PREFACE_BYTES) /* it was an upgrade to HTTP/2 */
			conn->phase = MULTIPLEXED;
		return;
	}
	if (conn->reading) {
		struct conversation *conv = bpf_sk_storage_get(&conversations, sk, NULL, 0);
		if (conv && !is_answer && continues_preface(conv, skb, offset, length)) {
			conn->phase = MULTIPLEXED;
			return;
		}
		if (conv && (is_answer || !is_quiet(conv))) {
			read_on(skb, where, is_answer, gap);
			return;
		}
		conn->reading = 0;
	}
	bool mid_answer = false;
	if (conn->phase != AWAITING_ANSWER && conn->answered && is_answer) { /* the rest of its body */
		book_more(conn, gap + length);
		return;
	}
	if (gap && (!is_answer || conn->phase != AWAITING_ANSWER))
		lose(LOSS_SEQUENCE_GAP);
	if (conn->phase == AWAITING_ANSWER) {
		mid_answer = conn->followed;
		if (is_answer && take_answer(skb, conn, offset, length, gap))
			return;
	} else {
		enum opened opened = open_request(skb, conn, sk, offset, length, direction);
		if (opened == NO_REQUEST && !conn->answered && read_status(skb, offset, length))
			lose(LOSS_RESPONSE_WITHOUT_REQUEST);
		if (opened == NO_REQUEST)
			conn->answered = 0; /* asked in a way that we do not know: what comes back is not the last answer's */
		if (opened != TO_BE_READ)
			return;
		is_answer = false;
		mid_answer = conn->answered;
	}
	start_reading(conn, made_with(&conversations, sk), mid_answer);
	read_on(skb, where, is_answer, is_answer ? gap : 0);
}

static __always_inline void read_early(struct __sk_buff *skb, struct early *early, struct bpf_sock *sk,
				       const struct segment *segment)
{
	__u32 offset = segment->offset, gap = 0, length = unseen(&early->conn, INGRESS, segment->sequence, &offset, segment->length, &gap);
	if (!length || early->conn.phase == MULTIPLEXED)
		return;
	if (!early->conn.reading) { /* a second segment puts the first one's request into the ring */
		if (early->conn.phase != AWAITING_ANSWER && open_request(skb, &early->conn, sk, offset, length, INGRESS) != TO_BE_READ) {
			if (early->conn.phase == MULTIPLEXED) /* its first frames are not read */
				lose(LOSS_OUT_OF_STEP);
			return;
		}
		start_reading(&early->conn, &early->conv, false);
	}
	read_on(skb, (__u64)length << 32 | offset, false, gap);
}

/* A packet that passes a listening socket. */
static __always_inline void observe_early(struct __sk_buff *skb, struct bpf_sock *sk, const struct segment *segment)
{
	struct early *early = early_of(skb, segment);
	if (!early || !take_turn(&early->conn)) {
		lose(LOSS_NO_SOCKET_STATE);
		return;
	}
	asm volatile("" : "+r"(early)); /* so that nothing is added to it before it is known to be there */
	read_early(skb, early, sk, segment);
	end_turn(&early->conn);
}

static __always_inline void take_segment(struct __sk_buff *skb, struct connection *conn, struct bpf_sock *sk,
					 const struct segment *segment, enum direction direction)
{
	__u32 offset = segment->offset, gap = 0;
	if (conn->phase == MULTIPLEXED) {
		hand_over(skb, offset, segment->length, direction, segment->sequence);
		return;
	}
	__u32 length = unseen(conn, direction, segment->sequence, &offset, segment->length, &gap);
	if (!length)
		return;
	payload(skb, conn, sk, offset, length, direction, gap);
	if (conn->phase == MULTIPLEXED) { /* as has just been found: it is read from here on */
		conn->next_sequence[direction] -= length;
		hand_over(skb, offset, length, direction, conn->next_sequence[direction]);
	}
}

static __always_inline int observe(struct __sk_buff *skb, enum direction direction)
{
	/* A packet without payload touches no state: the other direction may be at work on it. */
	struct segment segment;
	if (!find_payload(skb, &segment))
		return PASS;
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return PASS;
	if (sk->state == BPF_TCP_LISTEN) {
		if (direction == INGRESS)
			observe_early(skb, sk, &segment);
		return PASS;
	}
	if (sk->state == BPF_TCP_SYN_RECV && direction == INGRESS) { /* lifecycle.bpf.c has not been there yet */
		struct ends *ends = find_ends(skb, &segment);
		if (ends)
			adopt(sk, ends, segment.sequence);
	}
	struct connection *conn = made_with(&connections, sk);
	if (!conn) {
		lose(LOSS_NO_SOCKET_STATE);
	} else if (direction == EGRESS) { /* under the socket's lock */
		take_segment(skb, conn, sk, &segment, EGRESS);
	} else if (take_turn(conn)) {
		take_segment(skb, conn, sk, &segment, INGRESS); /* which does not come back from http2.bpf.c, */
		end_turn(conn);                                 /* where this is done as well */
	} else { /* whoever has it for so long will not have it for ever */
		lose(LOSS_TURN);
		end_turn(conn);
	}
	return PASS;
}

SEC("cgroup_skb/ingress")
int count_ingress(struct __sk_buff *skb)
{
	return observe(skb, INGRESS);
}

SEC("cgroup_skb/egress")
int count_egress(struct __sk_buff *skb)
{
	return observe(skb, EGRESS);
}
