/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * A connection that is not one plain request after the other: heads in pieces, bodies, pipelines.
 *
 *   requests --> stream --> [waiting: start, route, method] --> answers' stream --> book()
 *
 * Each direction is read byte by byte (http1_stream.h). Requests wait in a ring with one writer
 * (the requests' direction) and one reader (the answers'), which may run on two processors at once.
 */
#ifndef HEADROOM_CONVERSATION_H
#define HEADROOM_CONVERSATION_H

#define VERSION_BYTES 8 /* "HTTP/1.1" */
#define MOST_STEPS 512 /* in one segment; each is a first line, a head, or 64 bytes */

/* With its result in use this is the form of the atomic that keeps the order of what was written before. */
static __always_inline void publish(__u32 *count)
{
	__u32 before = __sync_fetch_and_add(count, 1);
	asm volatile("" : : "r"(before));
}

static __always_inline void ask(struct conversation *conv, __u64 start_ns, __u64 route, __u32 method, __u32 bytes)
{
	__u32 asked = conv->asked;
	if (asked - conv->answered >= MOST_WAITING) {
		lose(LOSS_PIPELINED);
		return;
	}
	struct waiting *request = &conv->waiting[asked & (MOST_WAITING - 1)];
	request->start_ns = start_ns;
	request->route = route;
	request->method = method;
	request->request_bytes = bytes;
	publish(&conv->asked); /* after the entry itself */
}

/* Whether a request's first line ends as one of HTTP/1.x does; what is longer than is kept is taken for one. */
static __always_inline bool has_version(const struct stream *s)
{
	__u32 end = s->line_bytes;
	if (end < VERSION_BYTES || end > HEAD_BYTES)
		return end > HEAD_BYTES;
	if (s->line[(end - 1) & (HEAD_BYTES - 1)] == '\r')
		end--;
	__u64 version = word_at(&s->line[(end - VERSION_BYTES) & (HEAD_BYTES - 1)]);
	return STARTS_WITH(version, "HTTP/1.");
}

/* The first line of a request is complete. */
static __always_inline void read_request_line(struct connection *conn, struct conversation *conv)
{
	__u32 direction = conn->key.role == ROLE_SERVER ? INGRESS : EGRESS, method_bytes = 0;
	struct stream *s = &conv->requests;
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	enum method method = s->line_bytes < REQUEST_MIN_BYTES - 2 ? METHOD_NONE : method_of(word_at(s->line), &method_bytes);
	if (!head || method == METHOD_NONE || !has_version(s)) {
		s->state = SEEKING;
		return;
	}
	__builtin_memcpy(head->bytes, s->line, HEAD_BYTES);
	__u32 length = s->line_bytes < HEAD_BYTES ? s->line_bytes : HEAD_BYTES;
	ask(conv, s->began_ns, route_at(direction, method_bytes, length, conn->key.route, owner_of(&conn->key)), method, s->line_bytes + 1);
}

/* The first line of an answer is complete: it answers the request that has waited longest. */
static __always_inline void read_status_line(struct connection *conn, struct conversation *conv)
{
	struct stream *s = &conv->answers;
	__u64 word = word_at(s->line);
	__u16 status = s->line_bytes < STATUS_LINE_BYTES ? 0 : status_of(word, half_word_at(&s->line[8]));
	conv->status = status;
	if (!status) {
		s->state = SEEKING;
		conv->lost = 1;
		return;
	}
	if (status < 200 && status != 101)
		return;
	__u32 answered = conv->answered;
	if (conv->asked == answered) {
		conv->method = METHOD_NONE;
		conn->answered = 0; /* what follows is nobody's */
		lose(LOSS_RESPONSE_WITHOUT_REQUEST);
		return;
	}
	struct waiting *request = &conv->waiting[answered & (MOST_WAITING - 1)];
	conv->method = request->method;
	conn->key.method = request->method;
	conn->key.route = request->route;
	conn->key.status = status;
	conn->start_ns = request->start_ns;
	conn->took_units = latency_units(s->began_ns - request->start_ns);
	conn->answered = book(&conn->key, conn->start_ns, s->began_ns, request->request_bytes, s->line_bytes + 1);
	publish(&conv->answered);
}

/* An answer begins after some may have been missed. A client that does not pipeline waits for one at most:
 * whatever else waits will not be answered any more. */
static __always_inline void forget_unanswered(struct conversation *conv)
{
	for (__u32 i = 0; i < MOST_WAITING && conv->asked - conv->answered > 1; i++) {
		publish(&conv->answered);
		lose(LOSS_UNANSWERED);
	}
	conv->lost = 0;
}

static __always_inline void end_answer_head(struct connection *conn, struct conversation *conv)
{
	__u16 status = conv->status;
	if (opens_tunnel(status, conv->method)) {
		conv->answers.state = OPAQUE;
		conn->phase = TUNNEL;
		return;
	}
	begin_body(&conv->answers, status < 200 || status == 204 || status == 304 || conv->method == METHOD_HEAD, true);
}

/* What was read since a first line belongs to the answer that was booked last, or to the youngest request. */
static __always_inline void flush_bytes(struct connection *conn, struct conversation *conv, bool is_answer)
{
	struct stream *s = is_answer ? &conv->answers : &conv->requests;
	if (!s->more_bytes)
		return;
	if (!is_answer)
		conv->waiting[(conv->asked - 1) & (MOST_WAITING - 1)].request_bytes += s->more_bytes;
	else if (conn->answered && conv->status >= 200)
		book_more(conn, s->more_bytes);
	s->more_bytes = 0;
}

/* As step_stream. A function of its own, so that the verifier walks its loop once. */
__noinline __u32 step_segment(struct stream *s, __u32 length, __u64 now, bool is_answer)
{
	return s ? step_stream(s, length, now, is_answer) : 0;
}

static __always_inline bool is_at_start(const struct stream *s)
{
	return s->state == SEEKING || (s->state == FIRST_LINE && !s->line_bytes);
}

/* Nothing is under way: what comes next may be taken at one glance again. Asked by the requests' direction only. */
static __always_inline bool is_quiet(const struct conversation *conv)
{
	return conv->asked == conv->answered && is_at_start(&conv->requests) && is_at_start(&conv->answers);
}

/* From now on this connection is read; a request that is under way waits in the ring.
 * `mid_answer`: what comes from the other side may be the rest of an answer whose length nobody looked at. */
static __always_inline void start_reading(struct connection *conn, struct conversation *conv, bool mid_answer)
{
	if (!conv) {
		lose(LOSS_NO_SOCKET_STATE);
		return;
	}
	begin_message(&conv->requests);
	begin_message(&conv->answers);
	if (__sync_val_compare_and_swap(&conn->phase, AWAITING_ANSWER, BETWEEN) == AWAITING_ANSWER)
		ask(conv, conn->start_ns, conn->key.route, conn->key.method, conn->request_bytes);
	else
		mid_answer |= conn->answered; /* its answer came just now */
	if (mid_answer)
		conv->answers.state = SEEKING;
	conn->reading = 1;
}

/* The first byte of HTTP/2's preface came alone, and was taken for a method's. */
static __always_inline bool continues_preface(const struct conversation *conv, struct __sk_buff *skb, __u32 offset, __u32 length)
{
	const struct stream *s = &conv->requests;
	return s->state == FIRST_LINE && s->line_bytes == 1 && s->line[0] == 'P' &&
	       preface_left(skb, offset, length) == PREFACE_BYTES - 1;
}

/* What of the segment at `where` (its offset, and its length from bit 32 on) is read in one go, up to where something
 * ends; how much that was, 0 when the rest is nothing. A function of its own, as above. */
__noinline __u32 read_step(struct __sk_buff *skb, __u64 where, bool is_answer)
{
	__u32 offset = where, left = where >> 32;
	struct connection *conn = NULL;
	struct conversation *conv = conversation_of(skb, &conn);
	if (!conv)
		return 0;
	struct stream *s = is_answer ? &conv->answers : &conv->requests;
	if (s->state == SEEKING)
		return 0;
	if (s->state >= BODY) {
		__u32 skipped = skip_body(s, left);
		s->more_bytes += skipped;
		return skipped;
	}
	__u32 length = left < STEP_BYTES ? left : STEP_BYTES;
	if (!load_bytes(skb, offset, s->step, length, STEP_BYTES))
		return 0;
	__u32 stepped = step_segment(s, length, bpf_ktime_get_ns(), is_answer), done = stepped >> 8;
	enum stream_event event = stepped & 0xff;
	if (is_answer && s->state == SEEKING)
		conv->lost = 1;
	if (event == LINE_SEEN) {
		flush_bytes(conn, conv, is_answer);
		if (is_answer)
			read_status_line(conn, conv);
		else
			read_request_line(conn, conv);
		return done;
	}
	if (event == HEAD_SEEN && is_answer)
		end_answer_head(conn, conv);
	else if (event == HEAD_SEEN)
		begin_body(s, false, false);
	if (event || s->state != FIRST_LINE) /* a first line's bytes are counted with it */
		s->more_bytes += done;
	return done;
}

/* Whether a segment can be the beginning of a message: a short one as far as it goes. */
static __always_inline bool starts_message(struct __sk_buff *skb, __u32 offset, __u32 length, bool is_answer)
{
	__u64 line[2] = {};
	if (length >= STATUS_LINE_BYTES) {
		__u32 method_bytes;
		if (bpf_skb_load_bytes(skb, offset, line, STATUS_LINE_BYTES))
			return false;
		return is_answer ? status_of(line[0], line[1]) : method_of(line[0], &method_bytes) != METHOD_NONE;
	}
	__u32 known = length < sizeof(__u64) ? length : sizeof(__u64);
	if (!load_bytes(skb, offset, line, known, sizeof(__u64)))
		return false;
	return is_answer ? agrees(line[0], known, word_of("HTTP/1.", 7), 7) : may_be_method(line[0], known);
}

/* A segment in steps; how many bytes are left where they end. A function of its own, as above. */
__noinline __u32 read_steps(struct __sk_buff *skb, __u64 where, bool is_answer)
{
	__u32 offset = where, left = where >> 32;
	for (__u32 step = 0; left && step < MOST_STEPS; step++) {
		__u32 done = read_step(skb, (__u64)left << 32 | offset, is_answer);
		if (!done || done > left)
			break;
		offset += done;
		left -= done;
	}
	return left;
}

/* A segment's payload, and how many bytes before it were not seen; `where` as above. Of a body only the length counts. */
__noinline int read_on(struct __sk_buff *skb, __u64 where, bool is_answer, __u32 gap)
{
	__u32 offset = where, length = where >> 32;
	struct connection *conn = NULL;
	struct conversation *conv = conversation_of(skb, &conn);
	if (!conv)
		return 0;
	struct stream *s = is_answer ? &conv->answers : &conv->requests;
	bool went_on = is_answer && s->state == OPAQUE && conv->asked != conv->answered;
	bool lost = gap && (s->state < BODY || s->state == SEEKING || skip_body(s, gap) != gap);
	if (lost)
		lose(LOSS_SEQUENCE_GAP);
	else
		s->more_bytes += gap;
	if (lost || went_on) { /* a request after an answer up to the connection's end: it was none */
		s->state = SEEKING;
		conv->lost |= is_answer;
	}
	if (s->state == SEEKING) {
		if (!starts_message(skb, offset, length, is_answer))
			return 0;
		begin_message(s);
		if (is_answer && conv->lost)
			forget_unanswered(conv);
	}
	if (read_steps(skb, where, is_answer) && s->state != SEEKING) {
		lose(LOSS_LONG_SEGMENT);
		s->state = SEEKING;
		conv->lost |= is_answer;
	}
	flush_bytes(conn, conv, is_answer);
	return 0;
}

#endif
