/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The hash under which a path is counted, and its text when it is new.
 *
 *   "/users/42/orders"   -->   hash of "/users/" * "/orders"
 *   "/shops/anna/cart"   -->   hash of "/shops/" * "/cart", once there are too many shops
 */
#ifndef HEADROOM_ROUTES_H
#define HEADROOM_ROUTES_H

/* A segment of the path this long, of hexadecimal digits and '-' with a decimal digit
 * among them, is an identifier (a short hash, a UUID), not a word like "feed" or "face". */
#define HEX_IDENTIFIER_BYTES 8

/* First path seen for each route hash. Its bound is the bound on routes per node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct route_text);
} routes SEC(".maps");

/* What collector/services.py found out. The children of a prefix that ends with '/' are one, '*'; a prefix that ends
 * otherwise keeps its name though its siblings have lost theirs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768); /* 16 bytes each, used or not */
	__type(key, struct prefix_key);
	__type(value, __u32);
} prefixes SEC(".maps");

/* Routes that an owner has brought, and how many it may bring in all once collector/services.py has said so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u32);
} routes_brought SEC(".maps"), routes_allowed SEC(".maps");

/* One per direction: a packet that comes in can interrupt the program of one that goes out. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

/* Whose routes share their prefixes: a cgroup as a server, or as a client. */
static __always_inline __u64 owner_of(const struct request_key *key)
{
	return key->cgroup_id | (__u64)key->role << 63;
}

__noinline int is_marked(__u64 owner, __u64 prefix)
{
	struct prefix_key key = { .owner = owner, .prefix = prefix };
	return bpf_map_lookup_elem(&prefixes, &key) ? 1 : 0;
}

/* Room for one more route of this owner; false when it has brought too many. */
static __always_inline bool bring_route(__u64 owner)
{
	__u32 none = 0;
	__u32 *allowed = bpf_map_lookup_elem(&routes_allowed, &owner);
	__u32 *brought = bpf_map_lookup_elem(&routes_brought, &owner);
	if (!brought) {
		bpf_map_update_elem(&routes_brought, &owner, &none, BPF_NOEXIST);
		brought = bpf_map_lookup_elem(&routes_brought, &owner);
	}
	if (!brought || *brought >= (allowed ? *allowed : MOST_ROUTES_PER_OWNER))
		return false;
	__sync_fetch_and_add(brought, 1);
	return true;
}

/* What a byte of a path can be; a table, since a comparison is a branch to the verifier. */
enum byte_class { DIGIT = 1, HEX = 2, SLASH = 4, END = 8 };
static const __u8 byte_class[256] = {
	['0' ... '9'] = DIGIT | HEX, ['a' ... 'f'] = HEX, ['A' ... 'F'] = HEX, ['-'] = HEX,
	['/'] = SLASH, [' '] = END, ['?'] = END, ['\r'] = END, ['\n'] = END,
};

static __always_inline __u8 is_identifier(__u32 bytes, __u32 digits, __u32 hex)
{
	return digits && (digits == bytes || (hex == bytes && bytes >= HEX_IDENTIFIER_BYTES));
}

/* Hash the path in bytes[from..length): each segment is hashed as it stands, and rolled back to one '*' at its end
 * when it turned out an identifier, or one of many that its owner, if any, has there. */
static __always_inline __u64 read_path(struct head *head, __u32 from, __u32 length, const __u64 *owner)
{
	__u32 segment_bytes = zero_of(head), digits = zero_of(head), hex = zero_of(head);
	__u32 whole = zero_of(head), one_of_many = zero_of(head);
	__u64 hash = FNV_OFFSET, at_segment = hash;

	head->path.length = 0; /* in the map: the stack is short */
	for (__u32 i = 0; i < ROUTE_TEXT_BYTES; i++) {
		if (from + i >= length)
			break;
		__u8 c = head->bytes[(from + i) & (HEAD_BYTES - 1)];
		__u8 class = byte_class[c];
		if (class & END) {
			whole = 1;
			break;
		}
		head->path.length++;
		if (class & SLASH) {
			if (is_identifier(segment_bytes, digits, hex) | (owner && segment_bytes ? one_of_many & !is_marked(*owner, hash) : 0))
				hash = (at_segment ^ '*') * FNV_PRIME;
			segment_bytes = zero_of(head);
			digits = zero_of(head);
			hex = zero_of(head);
			hash = at_segment = (hash ^ '/') * FNV_PRIME;
			one_of_many = owner ? is_marked(*owner, hash) : 0;
			continue;
		}
		digits += class & DIGIT;
		hex += (class & HEX) >> 1;
		segment_bytes++;
		hash = (hash ^ c) * FNV_PRIME;
	}
	if (!whole) /* what is left of the last segment may be one of many */
		hash = (at_segment ^ '+') * FNV_PRIME;
	else if (is_identifier(segment_bytes, digits, hex) | (owner && segment_bytes ? one_of_many & !is_marked(*owner, hash) : 0))
		hash = (at_segment ^ '*') * FNV_PRIME;
	head->path.whole = whole;
	return hash <= ROUTE_UNKNOWN ? FNV_OFFSET : hash;
}

/* Copy the path out of the head, zeros behind it, in words: for its first sight only. */
static __always_inline void copy_path(struct head *head, __u32 from)
{
	const struct path *path = &head->path;
	head->text.length = path->length;
	head->text.whole = path->whole;
	for (__u32 at = 0; at < ROUTE_TEXT_BYTES; at += 8) {
		__u64 word = word_at(&head->bytes[(from + at) & (HEAD_BYTES - 1)]);
		__u32 left = path->length > at ? path->length - at : 0;
		if (left < 8)
			word &= (1ULL << 8 * left) - 1;
		*(__u64 *)&head->text.path[at] = word;
	}
}

/* A route at its first sight: its text goes to `routes`. */
__noinline __u64 new_route(__u32 direction, __u32 from, __u64 hash, __u64 owner)
{
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	if (!head)
		return ROUTE_OVERFLOW;
	if (bring_route(owner)) {
		copy_path(head, from);
		if (bpf_map_update_elem(&routes, &hash, &head->text, BPF_NOEXIST) == 0 ||
		    bpf_map_lookup_elem(&routes, &hash)) /* another processor was first */
			return hash;
	}
	lose(LOSS_ROUTE_OVERFLOW);
	return ROUTE_OVERFLOW;
}

/* The path's own hash. Each of these is a function of its own, so that the verifier walks a loop once. */
__noinline __u64 own_route(__u32 direction, __u32 from, __u32 length)
{
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	if (!head)
		return ROUTE_OVERFLOW;
	__u64 hash = read_path(head, from, length, NULL);
	if (!head->path.whole)
		lose(LOSS_ROUTE_CUT);
	return hash;
}

/* The hash with '*' for segments that are one of many. */
__noinline __u64 merged_route(__u32 direction, __u32 from, __u32 length, __u64 owner)
{
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	if (!head)
		return ROUTE_OVERFLOW;
	return read_path(head, from, length, &owner);
}

/* The hash under which the path at head[from..length) is counted; `last` is that of the request before. Inline: one more
 * frame is one too many for the stack of 6.1. */
static __always_inline __u64 route_at(__u32 direction, __u32 from, __u32 length, __u64 last, __u64 owner)
{
	__u64 hash = own_route(direction, from, length);
	if (hash == last || bpf_map_lookup_elem(&routes, &hash))
		return hash;
	hash = merged_route(direction, from, length, owner);
	return bpf_map_lookup_elem(&routes, &hash) ? hash : new_route(direction, from, hash, owner);
}

#endif
