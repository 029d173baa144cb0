/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Where requests are counted: statistics by key, the routes' texts, and what was lost.
 */
#ifndef HEADROOM_COUNTING_H
#define HEADROOM_COUNTING_H

/* Grows with what is in use: 2 KB a key. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct request_key);
	__type(value, struct request_stats);
} requests SEC(".maps");

/* First path seen for each route hash. Its bound is the bound on routes per node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, __u64);
	__type(value, struct route_text);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

/* One per direction: a packet that comes in can interrupt the program of one that goes out. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

/* The loader puts the map of cpu.bpf.c in its place; without that object it stays empty. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct cgroup_cpu);
} shared_cgroup_cpus SEC(".maps");

/* All zeros: what a new entry of `requests` starts from; too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct request_stats);
} fresh_stats SEC(".maps");

static __always_inline void lose(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&losses, &reason);
	if (count)
		(*count)++;
}

static __always_inline __u32 log2_of(__u64 value)
{
	__u32 bits = 0;
	if (value >> 32) { value >>= 32; bits += 32; }
	if (value >> 16) { value >>= 16; bits += 16; }
	if (value >> 8) { value >>= 8; bits += 8; }
	if (value >> 4) { value >>= 4; bits += 4; }
	if (value >> 2) { value >>= 2; bits += 2; }
	return bits + (value >> 1);
}

static __always_inline __u32 latency_bucket(__u64 nanoseconds)
{
	__u64 units = nanoseconds >> LATENCY_UNIT_SHIFT;
	__u32 bucket = units;
	if (units >= 16) {
		__u32 octave = log2_of(units);
		bucket = (octave - 3) * 16 + ((units >> (octave - 4)) & 15);
	}
	asm volatile("" : "+r"(bucket)); /* so that the verifier sees the bound below */
	return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

static __always_inline struct request_stats *stats_of(const struct request_key *key)
{
	struct request_stats *stats = bpf_map_lookup_elem(&requests, key);
	if (stats)
		return stats;
	__u32 first = 0;
	struct request_stats *fresh = bpf_map_lookup_elem(&fresh_stats, &first);
	if (!fresh)
		return NULL;
	/* Lost races and full maps both end in the second look-up. */
	bpf_map_update_elem(&requests, key, fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&requests, key);
}

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

/* So that the limit bank weighs the delays of this moment by the requests that got them. */
static __always_inline void weigh_bin(__u64 cgroup_id, __u64 now)
{
	struct cgroup_cpu *cg = bpf_map_lookup_elem(&shared_cgroup_cpus, &cgroup_id);
	if (cg)
		__sync_fetch_and_add(&cg->open_answers[now / BIN_NS % OPEN_BINS], 1);
}

/* An answered request, whose answer began at `now`. */
static __always_inline bool book(const struct request_key *key, __u64 start_ns, __u64 now, __u32 request_bytes, __u32 response_bytes)
{
	struct request_stats *stats = stats_of(key);
	if (!stats) {
		lose(LOSS_NO_STATS_ENTRY);
		return false;
	}
	if (key->role == ROLE_SERVER)
		weigh_bin(key->cgroup_id, now);
	__sync_fetch_and_add(&stats->latency[latency_bucket(now - start_ns)], 1);
	__sync_fetch_and_add(&stats->latency_sum_ns, now - start_ns);
	__sync_fetch_and_add(&stats->request_bytes, request_bytes);
	__sync_fetch_and_add(&stats->response_bytes, response_bytes);
	return true;
}

/* More of the body of an answer that was booked. */
static __always_inline void book_body(const struct request_key *key, __u32 response_bytes)
{
	struct request_stats *stats = bpf_map_lookup_elem(&requests, key);
	if (stats)
		__sync_fetch_and_add(&stats->response_bytes, response_bytes);
}

#endif
