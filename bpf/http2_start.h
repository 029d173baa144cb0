/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * HTTP/2: how a connection begins, and what a frame's header looks like.
 *
 * Reference: RFC 9113, sections 3.4, 4.1 and 6.
 */
#ifndef HEADROOM_HTTP2_START_H
#define HEADROOM_HTTP2_START_H

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_BYTES 24
#define FRAME_HEADER_BYTES 9
#define FIRST_FIELDS 6 /* of a header block, that may tell who sent it */

enum frame_type {
	FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RESET, FRAME_SETTINGS, FRAME_PUSH_PROMISE, FRAME_PING,
	FRAME_GOAWAY, FRAME_WINDOW_UPDATE, FRAME_CONTINUATION,
	FRAME_NONE = 0xff,
};

enum frame_flags { END_STREAM = 1, END_HEADERS = 4, PADDED = 8, HAS_PRIORITY = 0x20 };

static __always_inline __u32 frame_length(const __u8 *header)
{
	return header[0] << 16 | header[1] << 8 | header[2];
}

static __always_inline __u32 frame_stream(const __u8 *header)
{
	return (__u32)header[5] << 24 | header[6] << 16 | header[7] << 8 | header[8];
}

/* The programs of http2.bpf.c; empty where that object is not loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} http2_ingress_program SEC(".maps"), http2_egress_program SEC(".maps");

/* What is left of a segment, to http2.bpf.c; does not come back where that is loaded. */
static __always_inline void hand_over(struct __sk_buff *skb, __u32 offset, __u32 length, enum direction direction, __u32 sequence)
{
	skb->cb[0] = offset;
	skb->cb[1] = length;
	skb->cb[2] = sequence;
	bpf_tail_call(skb, direction == INGRESS ? (void *)&http2_ingress_program : (void *)&http2_egress_program, 0);
}

/* Whether these nine bytes can be a frame's header. */
static __always_inline bool is_frame_header(const __u8 *header)
{
	__u32 length = frame_length(header), stream = frame_stream(header);
	if (stream >> 31)
		return false;
	switch (header[3]) {
	case FRAME_DATA:
	case FRAME_HEADERS:
	case FRAME_PUSH_PROMISE:
	case FRAME_CONTINUATION:
		return stream;
	case FRAME_PRIORITY:
		return stream && length == 5;
	case FRAME_RESET:
		return stream && length == 4;
	case FRAME_SETTINGS:
		return !stream && length % 6 == 0;
	case FRAME_PING:
		return !stream && length == 8;
	case FRAME_GOAWAY:
		return !stream && length >= 8;
	case FRAME_WINDOW_UPDATE:
		return length == 4;
	}
	return true; /* an extension */
}

/* Whether the first bytes of a segment are the preface's, as far as they go; two at least, since "P" is POST too. */
static __always_inline bool begins_preface(__u64 word, __u32 bytes)
{
	return bytes >= 2 && agrees(word, bytes < 8 ? bytes : 8, word_of(PREFACE, 8), 8);
}

/* How much of the preface is ahead in this direction, when this segment begins it; its first byte may have come alone. */
static __always_inline __u32 preface_left(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	__u64 word = 0;
	__u32 known = length < 8 ? length : 8;
	if (!load_bytes(skb, offset, &word, known, 8))
		return 0;
	if (begins_preface(word, known))
		return PREFACE_BYTES;
	return agrees(word, known, word_of(&PREFACE[1], 8), 8) ? PREFACE_BYTES - 1 : 0;
}

/* The name that the field at this byte has in the static table; 0 for any other. */
static __always_inline __u32 static_name(__u8 c)
{
	__u32 index = c & 0x80 ? c & 0x7f : c & 0x40 ? c & 0x3f : c & 0x0f;
	return index <= 14 ? index : 0;
}

enum speaker { NOBODY, A_CLIENT, A_SERVER };

/* Who sent this segment, when it is one of an HTTP/2 connection older than the agent: it begins with a whole header block,
 * and among its first fields is one that only a request, or only an answer, has. What comes before that may be in the
 * dynamic table. A function of its own, so that the verifier walks it once. */
__noinline int speaker_of(const struct head *head, __u32 length)
{
	if (!head)
		return NOBODY;
	const __u8 *bytes = (const __u8 *)head->bytes;
	__u32 frame = frame_length(bytes);
	if (bytes[0] || bytes[3] != FRAME_HEADERS || (bytes[4] & ~(END_STREAM | END_HEADERS)) || !(bytes[4] & END_HEADERS))
		return NOBODY;
	if (!(bytes[8] & 1) || !is_frame_header(bytes) || frame + FRAME_HEADER_BYTES > length)
		return NOBODY;
	for (__u32 i = 0; i < FIRST_FIELDS && i < frame; i++) {
		__u8 c = bytes[FRAME_HEADER_BYTES + i];
		__u32 name = static_name(c);
		if (name)
			return name < 8 ? A_CLIENT : A_SERVER;
		if (!(c & 0x80)) /* spelled out: where the next one begins is not known */
			return NOBODY;
	}
	return NOBODY;
}

#endif
