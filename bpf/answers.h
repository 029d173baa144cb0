/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What an answer adds: to the statistics of its request, and as a weight to the limit bank.
 */
#ifndef HEADROOM_ANSWERS_H
#define HEADROOM_ANSWERS_H

/* The loader puts the map of cpu.bpf.c in its place; without that object it stays empty. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct cgroup_cpu);
} shared_cgroup_cpus SEC(".maps");

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
