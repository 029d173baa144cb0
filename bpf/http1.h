/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * HTTP/1.x: the first line of a request or of an answer, out of the bytes of one segment.
 *
 *   "GET /users/42/orders?x=1 HTTP/1.1"   ->   METHOD_GET, and where its path begins (routes.h)
 *   "HTTP/1.1 404 Not Found"              ->   404
 *
 * Whatever these take for a request is counted once an answer that starts with "HTTP/1." has
 * come back on the same socket, or when the connection ends without any.
 */
#ifndef HEADROOM_HTTP1_H
#define HEADROOM_HTTP1_H

/* Bytes of a first line that are looked at: a method, a space and a path of 112 bytes. */
#define HEAD_BYTES 128 /* a power of two */
/* Longest head that is taken at one glance. */
#define PLAIN_BYTES 1024 /* a power of two */
/* No request is shorter: "GET / HTTP/1.0\r\n\r\n". */
#define REQUEST_MIN_BYTES 16
/* "HTTP/1.1 200" */
#define STATUS_LINE_BYTES 12

#define FNV_OFFSET 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

/* Eight bytes from anywhere in one load. Where the compiler sees that they are an array's it would load them one by one,
 * since an array of bytes may begin anywhere; through a pointer of no type it takes our word for it. */
static __always_inline __u64 word_at(const void *bytes)
{
	return *(const __u64 *)bytes;
}

static __always_inline __u32 half_word_at(const void *bytes)
{
	return *(const __u32 *)bytes;
}

/* The first eight bytes of `text` as one little-endian word, cut to `length` bytes. */
static __always_inline __u64 word_of(const char *text, int length)
{
	__u64 word = 0;
	for (int i = 0; i < 8; i++)
		if (i < length)
			word |= (__u64)(__u8)text[i] << (8 * i);
	return word;
}

#define STARTS_WITH(word, text) \
	(((word) & (~0ULL >> (8 * (8 - (sizeof(text) - 1))))) == word_of(text, sizeof(text) - 1))

static __always_inline enum method method_of(__u64 word, __u32 *length)
{
	switch ((__u8)word) {
	case 'G':
		*length = 4;
		return STARTS_WITH(word, "GET ") ? METHOD_GET : METHOD_NONE;
	case 'H':
		*length = 5;
		return STARTS_WITH(word, "HEAD ") ? METHOD_HEAD : METHOD_NONE;
	case 'P':
		*length = 5;
		if (STARTS_WITH(word, "POST "))
			return METHOD_POST;
		*length = 4;
		if (STARTS_WITH(word, "PUT "))
			return METHOD_PUT;
		*length = 6;
		return STARTS_WITH(word, "PATCH ") ? METHOD_PATCH : METHOD_NONE;
	case 'D':
		*length = 7;
		return STARTS_WITH(word, "DELETE ") ? METHOD_DELETE : METHOD_NONE;
	case 'C':
		*length = 8;
		return STARTS_WITH(word, "CONNECT ") ? METHOD_CONNECT : METHOD_NONE;
	case 'O':
		*length = 8;
		return STARTS_WITH(word, "OPTIONS ") ? METHOD_OPTIONS : METHOD_NONE;
	case 'T':
		*length = 6;
		return STARTS_WITH(word, "TRACE ") ? METHOD_TRACE : METHOD_NONE;
	}
	return METHOD_NONE;
}

/* Whether `bytes` bytes of a word are what `text`, of `length` bytes, begins with. */
static __always_inline bool agrees(__u64 word, __u32 bytes, __u64 text, __u32 length)
{
	__u32 both = bytes < length ? bytes : length;
	return both >= 8 ? word == text : !((word ^ text) & ((1ULL << 8 * both) - 1));
}

#define MAY_BE(text) agrees(word, bytes, word_of(text, sizeof(text) - 1), sizeof(text) - 1)

/* A few bytes that a method may begin with; an empty line before it: RFC 9112, 2.2. A function of its own, so that the
 * verifier walks it once. */
__noinline int may_be_method(__u64 word, __u32 bytes)
{
	return MAY_BE("GET ") || MAY_BE("POST ") || MAY_BE("PUT ") || MAY_BE("HEAD ") || MAY_BE("DELETE ") || MAY_BE("PATCH ") ||
	       MAY_BE("OPTIONS ") || MAY_BE("CONNECT ") || MAY_BE("TRACE ") || MAY_BE("\r\n") || MAY_BE("\n");
}

struct path {
	__u32 length; /* bytes before the query string, as far as they were seen */
	__u32 whole;  /* its end was seen */
};

/* A request's first line at work. */
struct head {
	char bytes[PLAIN_BYTES + 8]; /* read in words */
	__u32 zero; /* never written; see zero_of */
	__u32 reserved;
	struct path path;
	struct route_text text;
};

/* A zero that the verifier does not know, a new one each time: with counters that it knows,
 * or knows to be alike, it would walk every combination of them. */
#define zero_of(head) (*(volatile __u32 *)&(head)->zero)

#define EACH_BYTE 0x0101010101010101ULL

enum line { A_HEADER, LAST_LINE, NOT_PLAIN };

/* What the line at bytes[at..length) says. */
static __always_inline enum line line_at(const struct head *head, __u32 at, __u32 length)
{
	if (at >= length)
		return NOT_PLAIN; /* the head goes on in another segment */
	const char *line = &head->bytes[at & (PLAIN_BYTES - 1)];
	if (line[0] == '\r')
		return at + 2 == length && line[1] == '\n' ? LAST_LINE : NOT_PLAIN;
	if (line[0] == '\n')
		return at + 1 == length ? LAST_LINE : NOT_PLAIN;
	if ((line[0] | 0x20) != 'c' && (line[0] | 0x20) != 't')
		return A_HEADER;
	__u64 name = word_at(line) | 0x20 * EACH_BYTE;
	if (name == word_of("transfer", 8) || (name == word_of("content-", 8) && (line[8] | 0x20) == 'l'))
		return NOT_PLAIN;
	return A_HEADER;
}

/* The same for the lines that begin behind one of the eight bytes at `at`. A function of its own, so that the
 * verifier walks it once. */
__noinline int lines_behind(const struct head *head, __u32 at, __u32 length)
{
	if (!head)
		return NOT_PLAIN;
	for (__u32 i = 0; i < 8; i++) {
		enum line says = head->bytes[(at + i) & (PLAIN_BYTES - 1)] == '\n' ? line_at(head, at + i + 1, length) : A_HEADER;
		if (says != A_HEADER)
			return says;
	}
	return A_HEADER;
}

/* The highest bit of each byte that is zero; also of a byte of 1 above one. */
static __always_inline __u64 zeros_in(__u64 word)
{
	return (word - EACH_BYTE) & ~word & 0x80 * EACH_BYTE;
}

#define BYTES_OF(word, c) zeros_in((word) ^ (c) * EACH_BYTE)

/* Whether bytes[0..length) are one whole head without a body to follow: the blank line is at the very end, and
 * no header says otherwise. In words: most have no line end in them, and most lines begin with what says nothing here. */
static __always_inline bool is_plain(const struct head *head, __u32 length)
{
	for (__u32 at = 0; at < PLAIN_BYTES; at += 8) {
		if (at >= length)
			return false;
		__u64 word = word_at(&head->bytes[at]), ends = BYTES_OF(word, '\n');
		if (!ends)
			continue;
		__u64 next = word_at(&head->bytes[at + 1]), lower = next | 0x20 * EACH_BYTE;
		__u64 telling = BYTES_OF(lower, 'c') | BYTES_OF(lower, 't') | BYTES_OF(next, '\r') | BYTES_OF(next, '\n');
		if (!(ends & telling) && at + 8 < length)
			continue;
		int says = lines_behind(head, at, length);
		if (says != A_HEADER)
			return says == LAST_LINE;
	}
	return false;
}

/* The status of "HTTP/1.x NNN", or 0 for anything else. */
static __always_inline __u16 status_of(__u64 word, __u32 digits)
{
	__u8 minor = (__u8)(word >> 56) - '0';
	if (!STARTS_WITH(word, "HTTP/1.") || minor > 9 || (digits & 0xff) != ' ')
		return 0;
	__u32 hundreds = (digits >> 8 & 0xff) - '0';
	__u32 tens = (digits >> 16 & 0xff) - '0', ones = (digits >> 24) - '0';
	if (hundreds < 1 || hundreds > 9 || tens > 9 || ones > 9)
		return 0;
	return hundreds * 100 + tens * 10 + ones;
}

/* After this answer nothing on the connection is HTTP/1.x any more. */
static __always_inline bool opens_tunnel(__u16 status, __u32 method)
{
	return status == 101 || (method == METHOD_CONNECT && status >= 200 && status < 300);
}

#endif
