/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The Huffman code of HTTP/2's header fields, out of a string that was kept.
 *
 * The code is canonical: codes of one length follow each other, so a symbol is found by where its
 * first bits lie among the lengths' limits. What URLs are made of has five to eight bits.
 *
 * Reference: RFC 7541, appendix B. tests/bpf/test_http2.py compares with package hpack.
 */
#ifndef HEADROOM_HUFFMAN_H
#define HEADROOM_HUFFMAN_H

#define LONGEST_CODE 30

/* Symbols in the order of their codes. The end-of-string mark is the 257th: what decodes to it is not valid. */
static const __u8 symbols[256] = {
	/* 5 bits */ '0', '1', '2', 'a', 'c', 'e', 'i', 'o', 's', 't',
	/* 6 */ ' ', '%', '-', '.', '/', '3', '4', '5', '6', '7', '8', '9', '=', 'A', '_', 'b', 'd', 'f', 'g', 'h', 'l', 'm', 'n',
	'p', 'r', 'u',
	/* 7 */ ':', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V',
	'W', 'Y', 'j', 'k', 'q', 'v', 'w', 'x', 'y', 'z',
	/* 8 */ '&', '*', ',', ';', 'X', 'Z',
	/* 10 to 30 */
	33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208, 128, 130,
	131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129, 132, 133,
	134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232,
	233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175,
	180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237, 199, 207,
	234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255, 203, 204, 211, 212, 214,
	221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16,
	17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249, 10, 13, 22,
};

/* A code is `length` bits long when its first 30 bits are below `limit`, and not below that of a shorter one. */
struct code_length {
	__u32 limit;
	__u8 length;
	__u8 first; /* place of its first symbol */
};

static const struct code_length long_codes[] = {
	{ 0x3fd00000, 10, 74 },
	{ 0x3fe80000, 11, 79 },
	{ 0x3ff00000, 12, 82 },
	{ 0x3ffc0000, 13, 84 },
	{ 0x3ffe0000, 14, 90 },
	{ 0x3fff8000, 15, 92 },
	{ 0x3fff9800, 19, 95 },
	{ 0x3fffb800, 20, 98 },
	{ 0x3fffd200, 21, 106 },
	{ 0x3fffec00, 22, 119 },
	{ 0x3ffffa80, 23, 145 },
	{ 0x3ffffd80, 24, 174 },
	{ 0x3ffffe00, 25, 186 },
	{ 0x3ffffef0, 26, 190 },
	{ 0x3fffff88, 27, 205 },
	{ 0x3ffffffc, 28, 224 },
	{ 0x40000000, 30, 253 },
};

/* A code of ten bits and more, from the first 30: its length, and its symbol from bit 8 on. A function of its own, so that
 * the verifier walks the loop once. */
__noinline __u32 long_code(__u32 bits)
{
	__u32 start = 0x3f800000;
	for (__u32 i = 0; i < sizeof(long_codes) / sizeof(long_codes[0]); i++) {
		const struct code_length *row = &long_codes[i];
		if (bits < row->limit) {
			__u32 at = row->first + ((bits - start) >> (LONGEST_CODE - row->length));
			return row->length | symbols[at & 255] << 8;
		}
		start = row->limit;
	}
	return LONGEST_CODE;
}

/* The same for any code, from its first eight bits where they are enough. A function of its own, as above. */
__noinline __u32 code_at(__u64 window)
{
	__u32 first = window >> 56, length, at;
	if (first < 0x50) {
		length = 5;
		at = first >> 3;
	} else if (first < 0xb8) {
		length = 6;
		at = 10 + ((first - 0x50) >> 2);
	} else if (first < 0xf8) {
		length = 7;
		at = 36 + ((first - 0xb8) >> 1);
	} else if (first < 0xfe) {
		length = 8;
		at = 68 + (first - 0xf8);
	} else {
		return long_code(window >> 34);
	}
	return length | symbols[at & 255] << 8;
}

#endif
