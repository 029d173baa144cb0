/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * HTTP/2 frames of one direction, cut anywhere: what each of them does to the streams.
 *
 *   FRAME_HEADER --> FRAME_HEAD --> BLOCK --> SKIPPED (padding) --> end_frame()
 *               '---------------------------> SKIPPED (data, anything else) --^
 *
 * Reference: RFC 9113, sections 4 to 6; doc/PROTOCOL-HTTP2.md of grpc.
 */
#ifndef HEADROOM_HTTP2_FRAMES_H
#define HEADROOM_HTTP2_FRAMES_H

#define MOST_FRAME_STEPS 2048 /* in one call; each is a header, a payload, or 64 bytes of a block */

static __always_inline struct connection *connection_at(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	return sk ? bpf_sk_storage_get(&connections, sk, NULL, 0) : NULL;
}

/* Where a byte is: in the packet, or with this bit in what is held. */
#define IN_HELD (1U << 31)

/* As load_bytes. */
static __always_inline bool fetch(struct __sk_buff *skb, __u32 offset, void *to, __u32 length, __u32 most)
{
	if (!(offset & IN_HELD))
		return load_bytes(skb, offset, to, length, most);
	struct bpf_sock *sk = skb->sk;
	struct held *held = sk ? bpf_sk_storage_get(&http2_held, sk, NULL, 0) : NULL;
	__s64 bytes = length;
	asm volatile("" : "+r"(bytes));
	if (!held || bytes < 1)
		return false;
	asm volatile("" : "+r"(bytes));
	if (bytes > most)
		return false;
	return !bpf_probe_read_kernel(to, bytes, &held->bytes[offset & (2 * HELD_BYTES - 1)]);
}

static __always_inline struct frames *frames_of(struct http2 *h, bool is_answer)
{
	return is_answer ? &h->answers : &h->requests;
}

/* Nothing is known any more of where frames begin, nor of entries that went into the table meanwhile. */
static __always_inline void lose_step(struct http2 *h, bool is_answer)
{
	struct frames *d = frames_of(h, is_answer);
	h->lost |= is_answer ? UNSEEN_ENDS : UNSEEN_REQUESTS;
	d->state = OUT_OF_STEP;
	d->fields.known = 0;
}

/* What a string that was kept says, and what becomes of it. A function of its own, as route_at. */
__noinline int take_string(struct fields *f, __u32 direction, __u32 event, __u64 last_route, __u64 owner)
{
	__u32 length = decode(f, direction);
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	if (!f || !head)
		return 0;
	char *text = head->bytes;
	__u32 method_bytes;
	if (event == NAME_SEEN) {
		f->name = name_of(text, length);
		return 0;
	}
	__u32 whole = f->line_bytes <= LINE_BYTES && length < LINE_BYTES;
	if (whole)
		text[length & (LINE_BYTES - 1)] = ' '; /* where a path ends, and a method */
	switch (f->name) {
	case NAME_METHOD:
		end_field(f, method_of(word_at(text), &method_bytes) ?: METHOD_OTHER);
		break;
	case NAME_PATH:
		end_field(f, route_at(direction, 0, length + whole, last_route, owner));
		break;
	case NAME_CONTENT_TYPE:
		end_field(f, length >= 16 && is_text(text, 16, "application/grpc", 16) &&
				     (length == 16 || text[16] == '+' || text[16] == ';'));
		break;
	case NAME_GRPC_STATUS:
		end_field(f, 1 + decimal_of(text, length, MOST_GRPC_STATUS, GRPC_STATUS_UNKNOWN)); /* as its clients take it */
		break;
	default: /* NAME_STATUS */
		end_field(f, decimal_of(text, length, 999, 0));
	}
	return 0;
}

/* A stream's answer, or its request, is over. */
static __always_inline void end_stream(struct __sk_buff *skb, struct http2 *h, __u32 stream, bool is_answer, enum outcome outcome)
{
	if (!is_answer && outcome == OUTCOME_ANSWERED) /* all of the request has been sent */
		return;
	struct stream_slot *slot = find_slot(skb, h, stream, stream);
	struct connection *conn = connection_at(skb);
	__u64 now = bpf_ktime_get_ns();
	if (slot && outcome == OUTCOME_ANSWERED)
		extend(slot, 0, now);
	if (slot && conn && count_stream(conn, slot, outcome, now) && conn->key.role == ROLE_SERVER)
		weigh_bin(conn->key.cgroup_id, now);
}

/* A header block is complete. */
static __always_inline void end_block(struct __sk_buff *skb, struct http2 *h, bool is_answer)
{
	struct frames *d = frames_of(h, is_answer);
	if (d->is_promise)
		return;
	if (!is_answer) {
		open_stream(skb, h);
		return;
	}
	struct stream_slot *slot = find_slot(skb, h, d->stream, d->stream);
	if (!slot) {
		struct connection *conn = connection_at(skb);
		bool was_upgrade = d->stream == 1 && conn && conn->key.status == 101; /* counted as that */
		bool was_counted = was_upgrade || (d->stream <= h->last_stream && !(h->lost & UNSEEN_REQUESTS)); /* it was reset */
		if (d->fields.status >= 200 && d->stream & 1 && !was_counted)
			lose(LOSS_RESPONSE_WITHOUT_REQUEST);
		return;
	}
	h->proved = 1;
	take_answer_fields(d, slot, bpf_ktime_get_ns());
	if (d->ends_stream || (slot->method == METHOD_CONNECT && d->fields.status >= 200)) /* what follows is a tunnel */
		end_stream(skb, h, d->stream, true, OUTCOME_ANSWERED);
}

/* A frame's payload is complete. A function of its own, so that the verifier walks it once. */
__noinline int end_frame(struct __sk_buff *skb, struct http2 *h, bool is_answer)
{
	if (!h)
		return 0;
	struct frames *d = frames_of(h, is_answer);
	d->state = FRAME_HEADER;
	d->header_bytes = 0;
	if (d->type == FRAME_HEADERS || d->type == FRAME_CONTINUATION || d->type == FRAME_PUSH_PROMISE) {
		if (d->flags & END_HEADERS)
			end_block(skb, h, is_answer);
	} else if (d->type == FRAME_DATA && d->flags & END_STREAM) {
		end_stream(skb, h, d->stream, is_answer, OUTCOME_ANSWERED);
	} else if (d->type == FRAME_RESET) {
		end_stream(skb, h, d->stream, is_answer, is_answer ? OUTCOME_RESET : OUTCOME_ABORTED);
	}
	return 0;
}

/* A frame's header is complete. */
static __always_inline void begin_frame(struct http2 *h, bool is_answer, __u64 now)
{
	struct frames *d = frames_of(h, is_answer);
	bool is_settings = is_frame_header(d->header) && d->header[3] == FRAME_SETTINGS;
	h->proved |= is_settings && d->type == FRAME_NONE; /* they follow the preface */
	bool may_be_new = h->proved || d->header[3] <= FRAME_CONTINUATION; /* a type that we do not know */
	if (!is_frame_header(d->header) || !may_be_new) {
		lose(LOSS_OUT_OF_STEP);
		lose_step(h, is_answer);
		return;
	}
	d->left = frame_length(d->header);
	d->type = d->header[3];
	d->flags = d->header[4];
	d->stream = frame_stream(d->header);
	d->padding = 0;
	d->head_left = 0;
	d->state = SKIPPED;
	if (d->type == FRAME_CONTINUATION) {
		d->state = BLOCK;
		d->message_bytes += d->left;
	}
	if (d->type != FRAME_HEADERS && d->type != FRAME_PUSH_PROMISE)
		return;
	begin_fields(&d->fields);
	d->is_promise = d->type == FRAME_PUSH_PROMISE;
	d->ends_stream = d->flags & END_STREAM;
	d->began_ns = now;
	d->message_bytes = d->left;
	d->head_left = (d->flags & PADDED ? 1 : 0) + (d->is_promise ? 4 : d->flags & HAS_PRIORITY ? 5 : 0);
	d->state = d->head_left ? FRAME_HEAD : BLOCK;
	if (d->head_left > d->left) {
		lose(LOSS_OUT_OF_STEP);
		lose_step(h, is_answer);
	}
}

static __always_inline __u32 read_header(struct __sk_buff *skb, struct http2 *h, bool is_answer, __u32 offset, __u32 left)
{
	struct frames *d = frames_of(h, is_answer);
	__u32 have = d->header_bytes;
	asm volatile("" : "+r"(have)); /* so that the verifier sees the bound below */
	if (have >= FRAME_HEADER_BYTES)
		return 0;
	__u32 wanted = FRAME_HEADER_BYTES - have, length = left < wanted ? left : wanted;
	if (!fetch(skb, offset, &d->header[have], length, FRAME_HEADER_BYTES))
		return 0;
	d->header_bytes = have + length;
	if (d->header_bytes < FRAME_HEADER_BYTES)
		return length;
	begin_frame(h, is_answer, bpf_ktime_get_ns());
	if (!d->left && d->state != OUT_OF_STEP)
		end_frame(skb, h, is_answer);
	return length;
}

/* Before a header block: the length of the padding behind it, and what is of no interest. */
static __always_inline __u32 read_frame_head(struct __sk_buff *skb, struct frames *d, __u32 offset, __u32 left)
{
	__u32 length = left < d->head_left ? left : d->head_left;
	if (d->flags & PADDED && !d->padding) {
		if (!fetch(skb, offset, &d->padding, 1, 1))
			return 0;
		d->flags &= ~PADDED;
	}
	d->head_left -= length;
	if (!d->head_left)
		d->state = d->left - length > d->padding ? BLOCK : SKIPPED;
	return length;
}

/* Of a header block up to CHUNK_BYTES, or to a string that says something. */
static __always_inline __u32 read_block(struct __sk_buff *skb, struct http2 *h, bool is_answer, __u32 offset, __u32 left)
{
	struct frames *d = frames_of(h, is_answer);
	struct connection *conn = connection_at(skb);
	__u32 of_block = d->left > d->padding ? d->left - d->padding : 0;
	__u32 length = left < of_block ? left : of_block;
	if (length > CHUNK_BYTES)
		length = CHUNK_BYTES;
	if (!conn || !fetch(skb, offset, d->fields.chunk, length, CHUNK_BYTES))
		return 0;
	__u32 stepped = step_fields(&d->fields, length), done = stepped >> 8, event = stepped & 0xff;
	if (event == VALUE_SEEN && is_answer && d->fields.name == NAME_PATH)
		end_field(&d->fields, ROUTE_UNKNOWN); /* what is pushed is no route of anybody's */
	else if (event)
		take_string(&d->fields, is_answer == (conn->key.role == ROLE_CLIENT) ? INGRESS : EGRESS, event, h->last_route,
			    owner_of(&conn->key));
	if (done >= of_block)
		d->state = SKIPPED; /* padding, if there is any */
	return done;
}

/* Payload that is not read; of data it is known how much there is. */
static __always_inline __u32 skip(struct __sk_buff *skb, struct http2 *h, bool is_answer, __u32 left)
{
	struct frames *d = frames_of(h, is_answer);
	__u32 length = left < d->left ? left : d->left;
	if (d->type != FRAME_DATA)
		return length;
	struct stream_slot *slot = find_slot(skb, h, d->stream, d->stream);
	if (slot && is_answer) {
		extend(slot, length, bpf_ktime_get_ns());
		slot->has_data = 1;
	} else if (slot) {
		slot->request_bytes += length;
	}
	return length;
}

/* What of the segment at `where` (its offset, and its length from bit 32 on) is read in one go; how much that was, 0 when
 * the rest is nothing. A function of its own, so that the verifier walks it once. */
__noinline __u32 read_frame(struct __sk_buff *skb, __u64 where, struct http2 *h, bool is_answer)
{
	__u32 offset = where, left = where >> 32, done;
	if (!h)
		return 0;
	struct frames *d = frames_of(h, is_answer);
	if (d->state == OUT_OF_STEP)
		return 0;
	if (d->state == FRAME_HEADER)
		return read_header(skb, h, is_answer, offset, left);
	if (d->state == FRAME_HEAD)
		done = read_frame_head(skb, d, offset, left);
	else if (d->state == BLOCK)
		done = read_block(skb, h, is_answer, offset, left);
	else
		done = skip(skb, h, is_answer, left);
	d->left -= done;
	if (!d->left)
		end_frame(skb, h, is_answer);
	return done;
}

/* A segment in steps; how many bytes are left where they end. A function of its own, as above. */
__noinline __u32 read_frames(struct __sk_buff *skb, __u64 where, struct http2 *h, bool is_answer)
{
	__u32 offset = where, left = where >> 32;
	for (__u32 step = 0; left && step < MOST_FRAME_STEPS; step++) {
		__u32 done = read_frame(skb, (__u64)left << 32 | offset, h, is_answer);
		if (!done || done > left)
			break;
		offset += done;
		left -= done;
	}
	return left;
}

#endif
