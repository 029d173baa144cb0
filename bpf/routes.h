/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The hash under which a path is counted, and its text when it is new.
 */
#ifndef HEADROOM_ROUTES_H
#define HEADROOM_ROUTES_H

/* First path seen for each route hash. Its bound is the bound on routes per node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, __u64);
	__type(value, struct route_text);
} routes SEC(".maps");

/* One per direction: a packet that comes in can interrupt the program of one that goes out. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

/* A route at its first sight: its text goes to `routes`. A function of its own, as route_at. */
__noinline __u64 new_route(__u32 direction, __u64 hash, __u32 from, __u32 length, __u32 whole)
{
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	if (!head)
		return ROUTE_OVERFLOW;
	struct path path = { .hash = hash, .length = length, .whole = whole };
	copy_path(head, from, &path);
	if (bpf_map_update_elem(&routes, &hash, &head->text, BPF_NOEXIST) == 0 ||
	    bpf_map_lookup_elem(&routes, &hash)) /* another processor was first */
		return hash;
	lose(LOSS_ROUTE_OVERFLOW);
	return ROUTE_OVERFLOW;
}

/* The hash under which the path at head[from..length) is counted; `last` is that of the request
 * before. A function of its own, so that the verifier walks the loop once. */
__noinline __u64 route_at(__u32 direction, __u32 from, __u32 length, __u64 last)
{
	struct head *head = bpf_map_lookup_elem(&heads, &direction);
	if (!head)
		return ROUTE_OVERFLOW;
	struct path path;
	read_path(head, from, length, &path);
	if (!path.whole)
		lose(LOSS_ROUTE_CUT);
	if (path.hash == last || bpf_map_lookup_elem(&routes, &path.hash))
		return path.hash;
	return new_route(direction, path.hash, from, path.length, path.whole);
}

#endif
