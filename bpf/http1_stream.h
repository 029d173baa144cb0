/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * HTTP/1.x, one direction of a connection, byte by byte: where messages begin and end.
 *
 *   FIRST_LINE --> HEADER_START <--> HEADER_NAME, LENGTH, CODING, SKIP_LINE
 *        ^              |
 *        |              +--> BODY ----------------------------------.
 *        |              +--> CHUNK_SIZE --> CHUNK_DATA --> CHUNK_END |   (trailers: headers again)
 *        '-------------------------------------------------------- --'
 *
 * Exact where read_path and read_status are only quick: heads cut at any byte, several messages in
 * one segment, bodies that look like messages. Bodies are skipped by their length, not read.
 * A step stops where its caller has something to do: at the end of a first line, of a head, of trailers, before a body.
 *
 * Reference: RFC 9112, sections 2.2 (line ends), 6.3 (body length), 7.1 (chunks).
 */
#ifndef HEADROOM_HTTP1_STREAM_H
#define HEADROOM_HTTP1_STREAM_H

#define STEP_BYTES 64 /* a power of two */

enum stream_state {
	FIRST_LINE, HEADER_START, HEADER_NAME, LENGTH, CODING, SKIP_LINE, HEAD_END,
	CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_END,
	BODY, CHUNK_DATA, /* skipped by `left` */
	SEEKING,          /* the next segment that starts with a message */
	OPAQUE,           /* to the connection's end: a tunnel, an answer without a length */
};

enum stream_event { NOTHING, LINE_SEEN, HEAD_SEEN, TRAILERS_SEEN };

enum framing { HAS_LENGTH = 1, CHUNKED = 2, TRAILERS = 4 };

struct stream {
	__u64 began_ns; /* the first byte of the message */
	__u64 left;     /* of the body or the chunk */
	__u64 token;    /* hash of the header name or coding so far */
	__u32 state;
	__u32 framing;
	__u32 line_bytes; /* of the first line, more than are kept */
	__u32 more_bytes; /* read since, and not yet counted */
	char line[HEAD_BYTES];
	char step[STEP_BYTES]; /* what is being read */
};

static const __u8 hex_value[256] = { /* one more than the digit is worth */
	['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
	['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
	['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

static __always_inline __u64 hashed(__u64 hash, __u8 c)
{
	return (hash ^ c) * FNV_PRIME;
}

static __always_inline __u64 token_of(const char *text, int length)
{
	__u64 hash = FNV_OFFSET;
	for (int i = 0; i < length; i++)
		hash = hashed(hash, text[i]);
	return hash;
}

#define TOKEN(text) token_of(text, sizeof(text) - 1)

/* The next message begins. */
static __always_inline void begin_message(struct stream *s)
{
	s->state = FIRST_LINE;
	s->line_bytes = 0;
	s->framing = 0;
	s->left = 0;
}

/* Eight bytes in, a request has its method, and twelve bytes in an answer its status; or the line is something else.
 * A function of its own, so that the verifier walks it once. */
__noinline int is_lost(__u64 word, __u32 digits, bool is_answer)
{
	__u32 method_bytes;
	return is_answer ? !status_of(word, digits) : method_of(word, &method_bytes) == METHOD_NONE;
}

static __always_inline enum stream_event step_first_line(struct stream *s, __u8 c, __u64 now, bool is_answer)
{
	if (!s->line_bytes) {
		if (c == '\r' || c == '\n') /* empty lines before a request: RFC 9112, 2.2 */
			return NOTHING;
		s->began_ns = now;
	}
	__u32 at = s->line_bytes;
	asm volatile("" : "+r"(at)); /* so that the verifier sees the bound below */
	if (c == '\n') {
		s->state = HEADER_START;
		return LINE_SEEN;
	}
	if (at < HEAD_BYTES)
		s->line[at] = c;
	s->line_bytes = at + 1;
	if (at + 1 == (is_answer ? STATUS_LINE_BYTES : 8) &&
	    is_lost(word_at(s->line), half_word_at(&s->line[8]), is_answer))
		s->state = SEEKING;
	return NOTHING;
}

/* The blank line: after a head, or after the trailers of a chunked body. */
static __always_inline enum stream_event end_head(struct stream *s)
{
	if (!(s->framing & TRAILERS))
		return HEAD_SEEN;
	begin_message(s);
	return TRAILERS_SEEN;
}

static __always_inline enum stream_event step_header(struct stream *s, __u8 c)
{
	__u8 lower = c >= 'A' && c <= 'Z' ? c + 32 : c;
	switch (s->state) {
	case HEADER_START:
		s->token = hashed(FNV_OFFSET, lower);
		if (c == '\r') {
			s->state = HEAD_END;
			return NOTHING;
		}
		if (c == '\n')
			return end_head(s);
		s->state = c == ' ' || c == '\t' || s->framing & TRAILERS ? SKIP_LINE : HEADER_NAME;
		return NOTHING;
	case HEAD_END:
		if (c == '\n')
			return end_head(s);
		s->state = SKIP_LINE;
		return NOTHING;
	case HEADER_NAME:
		if (c == '\n') {
			s->state = HEADER_START;
		} else if (c != ':') {
			s->token = hashed(s->token, lower);
		} else if (s->token == TOKEN("content-length")) {
			s->state = LENGTH;
			s->framing |= HAS_LENGTH;
			s->left = 0;
		} else {
			s->state = s->token == TOKEN("transfer-encoding") ? CODING : SKIP_LINE;
			s->token = FNV_OFFSET;
		}
		return NOTHING;
	case LENGTH:
		if (c >= '0' && c <= '9')
			s->left = s->left * 10 + (c - '0');
		else if (c != ' ' && c != '\t' && c != '\r')
			s->state = c == '\n' ? HEADER_START : SKIP_LINE;
		return NOTHING;
	case CODING: /* the last one is what counts */
		if (c == '\n') {
			s->framing = s->token == TOKEN("chunked") ? s->framing | CHUNKED : s->framing;
			s->state = HEADER_START;
		} else if (c == ',') {
			s->token = FNV_OFFSET;
		} else if (c != ' ' && c != '\t' && c != '\r') {
			s->token = hashed(s->token, lower);
		}
		return NOTHING;
	default: /* SKIP_LINE */
		if (c == '\n')
			s->state = HEADER_START;
		return NOTHING;
	}
}

static __always_inline void step_chunk(struct stream *s, __u8 c)
{
	__u8 digit = hex_value[c];
	switch (s->state) {
	case CHUNK_SIZE:
		if (digit) {
			s->left = s->left * 16 + (digit - 1);
			return;
		}
		s->state = CHUNK_EXTENSION; /* fall through */
	case CHUNK_EXTENSION:
		if (c != '\n')
			return;
		s->state = s->left ? CHUNK_DATA : HEADER_START;
		if (!s->left)
			s->framing |= TRAILERS;
		return;
	default: /* CHUNK_END */
		if (c == '\n')
			s->state = CHUNK_SIZE;
	}
}

/* Read step[0..length) up to the first event or body. Returns the event, and from bit 8 on where it stopped. */
static __always_inline __u32 step_stream(struct stream *s, __u32 length, __u64 now, bool is_answer)
{
	enum stream_event event = NOTHING;
	__u32 at = 0;
	for (__u32 i = 0; i < STEP_BYTES; i++) {
		if (at >= length || event || s->state >= BODY)
			break;
		__u8 c = s->step[at & (STEP_BYTES - 1)];
		at++;
		if (s->state == FIRST_LINE)
			event = step_first_line(s, c, now, is_answer);
		else if (s->state < CHUNK_SIZE)
			event = step_header(s, c);
		else
			step_chunk(s, c);
	}
	return event | at << 8;
}

/* After a head: what kind of body follows. `to_the_end`: an answer without a length goes on until the connection ends. */
static __always_inline void begin_body(struct stream *s, bool none, bool to_the_end)
{
	if (!none && s->framing & CHUNKED) {
		s->left = 0;
		s->state = CHUNK_SIZE;
	} else if (!none && s->framing & HAS_LENGTH && s->left) {
		s->state = BODY;
	} else if (!none && !(s->framing & HAS_LENGTH) && to_the_end) {
		s->state = OPAQUE;
	} else {
		begin_message(s);
	}
}

/* Skip what of `bytes` is body; how many. */
static __always_inline __u64 skip_body(struct stream *s, __u64 bytes)
{
	if (s->state >= SEEKING)
		return bytes;
	__u64 skipped = bytes < s->left ? bytes : s->left;
	s->left -= skipped;
	if (!s->left) {
		if (s->state == CHUNK_DATA)
			s->state = CHUNK_END;
		else
			begin_message(s);
	}
	return skipped;
}

#endif
