/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What requests are counted in: statistics by key, and what was lost. traffic.bpf.c and lifecycle.bpf.c share it.
 */
#ifndef HEADROOM_COUNTING_H
#define HEADROOM_COUNTING_H

/* Keys of `requests`. The last of them are for totals: requests without their route. */
#define MOST_KINDS 8192
#define KINDS_FOR_TOTALS 1024

/* Grows with what is in use: 2 KB a key. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MOST_KINDS);
	__type(key, struct request_key);
	__type(value, struct request_stats);
} requests SEC(".maps");

/* How many keys were made, and how many of them user space has removed since. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} kinds_made SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

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

static __always_inline __u32 log2_of(__u32 value)
{
	__u32 bits = 0;
	if (value >> 16) { value >>= 16; bits += 16; }
	if (value >> 8) { value >>= 8; bits += 8; }
	if (value >> 4) { value >>= 4; bits += 4; }
	if (value >> 2) { value >>= 2; bits += 2; }
	return bits + (value >> 1);
}

/* In units of the histogram; what takes more than 275 s is longer than its last bucket. */
static __always_inline __u32 latency_units(__u64 nanoseconds)
{
	__u64 units = nanoseconds >> LATENCY_UNIT_SHIFT;
	return units < 0xffffffff ? units : 0xffffffff;
}

static __always_inline __u32 latency_bucket(__u32 units)
{
	__u32 bucket = units;
	if (units >= 16) {
		__u32 octave = log2_of(units);
		bucket = (octave - 3) * 16 + ((units >> (octave - 4)) & 15);
	}
	asm volatile("" : "+r"(bucket)); /* so that the verifier sees the bound below */
	return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* Of a key that was counted before; of a route for which there was no room, its totals. */
static __always_inline struct request_stats *known_stats(struct request_key *key)
{
	struct request_stats *stats = bpf_map_lookup_elem(&requests, key);
	if (stats)
		return stats;
	key->route = ROUTE_OVERFLOW;
	return bpf_map_lookup_elem(&requests, key);
}

static __always_inline struct request_stats *new_stats(struct request_key *key)
{
	__u32 made_at = 0, removed_at = 1, first = 0;
	__u64 *made = bpf_map_lookup_elem(&kinds_made, &made_at), *removed = bpf_map_lookup_elem(&kinds_made, &removed_at);
	struct request_stats *fresh = bpf_map_lookup_elem(&fresh_stats, &first);
	if (!made || !removed || !fresh)
		return NULL;
	if (key->route != ROUTE_OVERFLOW && *made - *removed >= MOST_KINDS - KINDS_FOR_TOTALS) {
		key->route = ROUTE_OVERFLOW;
		lose(LOSS_ROUTE_OVERFLOW);
		struct request_stats *totals = bpf_map_lookup_elem(&requests, key);
		if (totals)
			return totals;
	}
	/* Lost races and full maps both end in the second look-up. */
	if (!bpf_map_update_elem(&requests, key, fresh, BPF_NOEXIST))
		__sync_fetch_and_add(made, 1);
	return bpf_map_lookup_elem(&requests, key);
}

/* Count one request that took so long, without its route where there is no room for that; NULL, a counted loss, when
 * there is no room at all. */
static __always_inline struct request_stats *add_request(struct request_key *key, __u64 nanoseconds, __u32 request_bytes)
{
	struct request_stats *stats = bpf_map_lookup_elem(&requests, key) ?: new_stats(key);
	if (!stats) {
		lose(LOSS_NO_STATS_ENTRY);
		return NULL;
	}
	__sync_fetch_and_add(&stats->latency[latency_bucket(latency_units(nanoseconds))], 1);
	__sync_fetch_and_add(&stats->latency_sum_ns, nanoseconds);
	__sync_fetch_and_add(&stats->request_bytes, request_bytes);
	return stats;
}

#endif
