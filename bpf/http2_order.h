/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * HTTP/2 segments in the order of their bytes, though packets pass before TCP has put them in order.
 *
 *   the next one --> read
 *   a later one  --> kept (8 KB per socket) until what is missing comes; what will not be waited for is a gap
 *
 * A header block that is read too early, or not at all, would shift every later index into the table.
 */
#ifndef HEADROOM_HTTP2_ORDER_H
#define HEADROOM_HTTP2_ORDER_H

/* Whether all that is missing, and more, is payload of which only the length counts. */
static __always_inline bool is_within_payload(const struct frames *d, __u32 missing)
{
	return d->state == SKIPPED && d->left > missing;
}

/* What is missing will not be waited for. */
static __always_inline void pass_gap(struct http2 *h, bool is_answer, __u32 missing)
{
	struct frames *d = frames_of(h, is_answer);
	lose(LOSS_SEQUENCE_GAP);
	if (is_within_payload(d, missing))
		d->left -= missing;
	else
		lose_step(h, is_answer);
}

/* Keep a segment until the one before it comes; false when there is no room, or a second one is missing. */
static __always_inline bool hold(struct __sk_buff *skb, struct http2 *h, __u32 offset, __u32 length, __u32 sequence)
{
	struct bpf_sock *sk = skb->sk;
	struct held *held = sk ? bpf_sk_storage_get(&http2_held, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (!held)
		return false;
	__u32 at = sequence - held->sequence;
	bool holds_all = (__s32)at <= 0 && (__s32)(at + length - held->length) >= 0;
	if (!h->holds || holds_all) {
		held->sequence = sequence;
		held->length = at = 0;
	}
	if ((__s32)at < 0)
		return false;
	if (at < held->length) { /* it came before, at least in part */
		__u32 known = held->length - at;
		if (known >= length)
			return true;
		offset += known;
		length -= known;
		at = held->length;
	}
	if (at != held->length)
		return false;
	asm volatile("" : "+r"(at)); /* so that the verifier sees the bound below */
	if (at >= HELD_BYTES || !load_bytes(skb, offset, &held->bytes[at], length, HELD_BYTES))
		return false;
	held->length = at + length;
	h->holds = 1;
	return true;
}

/* Read what is held, from `next` on, which is where the reading is. Returns where it is then. */
static __always_inline __u32 read_held(struct __sk_buff *skb, struct http2 *h, bool is_answer, __u32 next)
{
	struct bpf_sock *sk = skb->sk;
	struct held *held = sk && h->holds ? bpf_sk_storage_get(&http2_held, sk, NULL, 0) : NULL;
	if (!held || (__s32)(held->sequence - next) > 0)
		return next; /* something before it is still missing */
	h->holds = 0;
	__u32 at = next - held->sequence;
	if (at >= held->length)
		return next;
	read_frames(skb, (__u64)(held->length - at) << 32 | at | IN_HELD, h, is_answer);
	return held->sequence + held->length;
}

/* Where what is held begins, if that is before `sequence`; else that. */
static __always_inline __u32 held_before(struct __sk_buff *skb, const struct http2 *h, __u32 sequence)
{
	struct bpf_sock *sk = skb->sk;
	struct held *held = sk && h->holds ? bpf_sk_storage_get(&http2_held, sk, NULL, 0) : NULL;
	return held && (__s32)(held->sequence - sequence) < 0 ? held->sequence : sequence;
}

/* A segment is not the next one. False when it is kept until that comes; else `next` is where it begins. */
static __always_inline bool skip_to(struct __sk_buff *skb, struct http2 *h, bool is_answer, enum direction direction,
				    __u32 offset, __u32 length, __u32 sequence, __u32 *next)
{
	__u32 missing = sequence - *next;
	if (is_within_payload(frames_of(h, is_answer), missing)) {
		frames_of(h, is_answer)->left -= skip(skb, h, is_answer, missing);
	} else {
		if (direction == INGRESS && hold(skb, h, offset, length, sequence))
			return false;
		__u32 until = direction == INGRESS ? held_before(skb, h, sequence) : sequence;
		pass_gap(h, is_answer, until - *next);
		if (until != sequence)
			until = read_held(skb, h, is_answer, until);
		if (until != sequence)
			pass_gap(h, is_answer, sequence - until);
	}
	*next = sequence;
	return true;
}

#endif
