/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * HPACK, one direction of a connection, byte by byte: what of its header fields a request is counted by.
 *
 *   FIELD --> INDEX                                        a field out of a table
 *         '-> NAME_INDEX --------> VALUE_START --> VALUE   one that is spelled out, and may go into the table
 *         '-> NAME_START --> NAME ------^
 *
 * Of the dynamic table only what is asked for is kept: method, path, status, content type, gRPC status. An index counts
 * back from the newest entry, so entries that were missed do not matter to those that came after; and
 * which ones were evicted, or were too large to go in, does not have to be known: no encoder refers to them.
 *
 * Reference: RFC 7541.
 */
#ifndef HEADROOM_HTTP2_FIELDS_H
#define HEADROOM_HTTP2_FIELDS_H

#define STATIC_ENTRIES 61
#define SHORT_NAME_BYTES 12 /* no name that is asked for is longer */

enum field_event { NO_FIELD, NAME_SEEN, VALUE_SEEN };

static const __u8 static_names[64] = {
	[2 ... 3] = NAME_METHOD, [4 ... 5] = NAME_PATH, [8 ... 14] = NAME_STATUS, [31] = NAME_CONTENT_TYPE,
};
static const __u16 static_values[64] = {
	[2] = METHOD_GET, [3] = METHOD_POST, [8] = 200, [9] = 204, [10] = 206, [11] = 304, [12] = 400, [13] = 404, [14] = 500,
};

/* A header block begins. */
static __always_inline void begin_fields(struct fields *f)
{
	f->state = FIELD;
	f->route = ROUTE_UNKNOWN;
	f->status = 0;
	f->method = METHOD_NONE;
	f->is_grpc = 0;
	f->grpc_status = 0;
	f->missed = 0;
}

static __always_inline void take(struct fields *f, __u32 name, __u64 value)
{
	if (name == NAME_METHOD)
		f->method = value;
	else if (name == NAME_PATH)
		f->route = value;
	else if (name == NAME_STATUS)
		f->status = value;
	else if (name == NAME_CONTENT_TYPE)
		f->is_grpc = value;
	else if (name == NAME_GRPC_STATUS)
		f->grpc_status = value;
}

/* A field that was spelled out is complete. */
static __always_inline void end_field(struct fields *f, __u64 value)
{
	f->state = FIELD;
	take(f, f->name, value);
	if (!f->inserts)
		return;
	__u32 at = f->inserted & (TABLE_ENTRIES - 1);
	f->names[at] = f->name;
	f->values[at] = value;
	f->inserted++;
	if (f->known < TABLE_ENTRIES)
		f->known++;
}

/* Place of the entry with this index in the ring, or TABLE_ENTRIES when it is not known. */
static __always_inline __u32 place_of(const struct fields *f, __u32 index)
{
	__u32 back = index - STATIC_ENTRIES; /* 1 is the newest */
	return back <= f->known ? (f->inserted - back) & (TABLE_ENTRIES - 1) : TABLE_ENTRIES;
}

static __always_inline __u32 name_at(struct fields *f, __u32 index)
{
	if (index <= STATIC_ENTRIES)
		return static_names[index & 63];
	__u32 place = place_of(f, index);
	if (place < TABLE_ENTRIES)
		return f->names[place & (TABLE_ENTRIES - 1)];
	f->missed = 1;
	return NAME_OTHER;
}

static __always_inline enum field_event take_indexed(struct fields *f, __u32 index)
{
	__u32 name = name_at(f, index);
	f->state = FIELD;
	if (index > STATIC_ENTRIES) {
		if (name)
			take(f, name, f->values[place_of(f, index) & (TABLE_ENTRIES - 1)]);
	} else if (name == NAME_PATH) { /* the only two texts in there */
		*(__u64 *)f->line = word_of("/index.h", 8);
		*(__u64 *)&f->line[8] = word_of("tml", 3);
		f->line_bytes = index == 4 ? 1 : 11;
		f->is_huffman = 0;
		f->inserts = 0;
		f->name = NAME_PATH;
		return VALUE_SEEN;
	} else if (name) {
		take(f, name, static_values[index & 63]);
	}
	return NO_FIELD;
}

static __always_inline enum field_event end_string(struct fields *f)
{
	if (f->state == NAME) {
		f->state = VALUE_START;
		return f->line_bytes ? NAME_SEEN : NO_FIELD;
	}
	if (f->name)
		return VALUE_SEEN;
	end_field(f, 0);
	return NO_FIELD;
}

static __always_inline enum field_event begin_string(struct fields *f, __u32 state)
{
	f->state = state;
	f->string_left = f->number;
	f->line_bytes = 0;
	return f->number ? NO_FIELD : end_string(f);
}

/* A number is complete. */
static __always_inline enum field_event take_number(struct fields *f)
{
	switch (f->state) {
	case INDEX:
		return take_indexed(f, f->number);
	case TABLE_SIZE:
		f->state = FIELD; /* what it evicts is not referred to any more */
		return NO_FIELD;
	case NAME_INDEX:
		f->name = name_at(f, f->number);
		f->state = f->number ? VALUE_START : NAME_START;
		return NO_FIELD;
	case NAME_LENGTH:
		f->name = NAME_OTHER;
		return begin_string(f, NAME);
	default: /* VALUE_LENGTH */
		return begin_string(f, VALUE);
	}
}

/* A byte of anything but a string. A function of its own, so that the verifier walks it once. */
__noinline __u32 step_number(struct fields *f, __u8 c)
{
	if (!f)
		return NO_FIELD;
	if (f->state >= INDEX) {
		f->number += (__u32)(c & 0x7f) << (f->shift & 31);
		f->shift += 7;
		return c & 0x80 ? NO_FIELD : take_number(f);
	}
	__u8 mask = 0x7f;
	if (f->state != FIELD) {
		f->is_huffman = c >> 7;
		f->state = f->state == NAME_START ? NAME_LENGTH : VALUE_LENGTH;
	} else if (c & 0x80) {
		f->state = INDEX;
	} else if ((c & 0xe0) == 0x20) {
		mask = 0x1f;
		f->state = TABLE_SIZE;
	} else {
		mask = c & 0x40 ? 0x3f : 0x0f;
		f->inserts = c & 0x40;
		f->state = NAME_INDEX;
	}
	f->number = c & mask;
	f->shift = 0;
	return f->number == mask ? NO_FIELD : take_number(f);
}

static __always_inline bool keeps_string(const struct fields *f)
{
	return f->state == NAME ? f->number <= SHORT_NAME_BYTES : f->name;
}

/* Bytes of a string, of which `length` are there; how many are done. */
static __always_inline __u32 step_string(struct fields *f, __u8 c, __u32 length)
{
	if (!keeps_string(f)) {
		__u32 skipped = length < f->string_left ? length : f->string_left;
		f->string_left -= skipped;
		return skipped;
	}
	__u32 at = f->line_bytes;
	asm volatile("" : "+r"(at)); /* so that the verifier sees the bound below */
	if (at < LINE_BYTES)
		f->line[at] = c;
	f->line_bytes = at + 1;
	f->string_left--;
	return 1;
}

/* Read chunk[0..length) up to the first event. Returns the event, and from bit 8 on where it stopped. A function of its
 * own, so that the verifier walks its loop once. */
__noinline __u32 step_fields(struct fields *f, __u32 length)
{
	__u32 event = NO_FIELD;
	if (!f)
		return 0;
	f->at = 0; /* in memory, where the verifier knows nothing of it: what it knows it tells apart */
	for (__u32 i = 0; i < CHUNK_BYTES; i++) {
		if (f->at >= length || event)
			break;
		__u8 c = f->chunk[f->at & (CHUNK_BYTES - 1)];
		if (f->state < NAME) {
			event = step_number(f, c);
			f->at++;
			continue;
		}
		f->at += step_string(f, c, length - f->at);
		if (!f->string_left)
			event = end_string(f);
	}
	return event | f->at << 8;
}

/* The string that was kept, as text in the scratch of this direction; its length. A function of its own, as above. */
__noinline __u32 decode(struct fields *f, __u32 direction)
{
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	if (!f || !head)
		return 0;
	__u32 length = f->line_bytes < LINE_BYTES ? f->line_bytes : LINE_BYTES;
	if (!f->is_huffman) {
		__builtin_memcpy(head->bytes, f->line, LINE_BYTES);
		return length;
	}
	__u32 bit = 0, out = 0;
	for (__u32 i = 0; i < LINE_BYTES; i++) {
		__u64 window = word_at(&f->line[(bit >> 3) & (LINE_BYTES - 1)]);
		__u32 code = code_at(bpf_be64_to_cpu(window) << (bit & 7)), bits = code & 0xff;
		if (bit + bits > 8 * length) /* what is behind the end does not count */
			break;
		head->bytes[out & (LINE_BYTES - 1)] = code >> 8;
		bit += bits;
		out++;
	}
	return out;
}

/* Whether text[0..length) is `wanted`, of at most 16 bytes. */
static __always_inline bool is_text(const char *text, __u32 length, const char *wanted, __u32 wanted_bytes)
{
	if (length != wanted_bytes || !agrees(word_at(text), length, word_of(wanted, wanted_bytes), length))
		return false;
	if (length <= 8)
		return true;
	return agrees(word_at(text + 8), length - 8, word_of(wanted + 8, wanted_bytes - 8), length - 8);
}

#define IS(name) is_text(text, length, name, sizeof(name) - 1)

/* A name that was spelled out. */
static __always_inline enum field_name name_of(const char *text, __u32 length)
{
	if (IS("grpc-status"))
		return NAME_GRPC_STATUS;
	if (IS("content-type"))
		return NAME_CONTENT_TYPE;
	if (IS(":path"))
		return NAME_PATH;
	if (IS(":method"))
		return NAME_METHOD;
	return IS(":status") ? NAME_STATUS : NAME_OTHER;
}

/* Up to three digits; `otherwise` for anything else, and for more than `most`. */
static __always_inline __u32 decimal_of(const char *text, __u32 length, __u32 most, __u32 otherwise)
{
	__u32 value = 0, wrong = !length || length > 3;
	for (__u32 i = 0; i < 3; i++) {
		__u32 digit = (__u8)(text[i] - '0');
		wrong |= i < length && digit > 9;
		if (i < length)
			value = value * 10 + digit;
	}
	return wrong || value > most ? otherwise : value;
}

#endif
