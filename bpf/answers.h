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

/* So that the limit bank weighs the delays of this moment by the requests that got them. After a pause the cgroup's bins
 * are closed by its next charge: until then there is no room for this one. */
static __always_inline void weigh_bin(__u64 cgroup_id, __u64 at)
{
	__u64 bin = at / BIN_NS;
	struct cgroup_cpu *cg = bpf_map_lookup_elem(&shared_cgroup_cpus, &cgroup_id);
	if (!cg)
		return;
	if (bin < cg->next_bin + OPEN_BINS)
		__sync_fetch_and_add(&cg->open_answers[bin % OPEN_BINS], 1);
	else
		__sync_fetch_and_add(&cg->late_answers, 1);
}

/* A request's delay is that of the moment in which its last byte leaves. Its weight goes along from bin to bin while the
 * answer flows, and stays where it is when that pauses: then it waits for the other end. */
static __always_inline void move_weight(__u64 cgroup_id, __u64 from_ns, __u64 to_ns)
{
	__u64 from = from_ns / BIN_NS, to = to_ns / BIN_NS;
	if (to != from + 1)
		return;
	struct cgroup_cpu *cg = bpf_map_lookup_elem(&shared_cgroup_cpus, &cgroup_id);
	if (!cg || from <= cg->next_bin || to >= cg->next_bin + OPEN_BINS) /* closed, or about to be; or late */
		return;
	__sync_fetch_and_add(&cg->open_answers[from % OPEN_BINS], -1);
	__sync_fetch_and_add(&cg->open_answers[to % OPEN_BINS], 1);
}

/* An answered request; its answer began at `now`. */
static __always_inline bool book(struct request_key *key, __u64 start_ns, __u64 now, __u32 request_bytes, __u32 response_bytes)
{
	struct request_stats *stats = add_request(key, now - start_ns, request_bytes);
	if (!stats)
		return false;
	if (key->role == ROLE_SERVER)
		weigh_bin(key->cgroup_id, now);
	__sync_fetch_and_add(&stats->response_bytes, response_bytes);
	return true;
}

static __always_inline __u64 after_units(__u64 start_ns, __u32 units)
{
	return start_ns + ((__u64)units << LATENCY_UNIT_SHIFT);
}

/* An answer that was booked goes on: its latency is now up to here. */
static __always_inline void book_more(struct connection *conn, __u32 response_bytes)
{
	struct request_key key = conn->key; /* a copy: a request that is pipelined may take its place meanwhile */
	__u64 start_ns = conn->start_ns;
	__u32 before = conn->took_units;
	struct request_stats *stats = known_stats(&key);
	if (!stats)
		return;
	__sync_fetch_and_add(&stats->response_bytes, response_bytes);
	__u32 now = latency_units(bpf_ktime_get_ns() - start_ns);
	__u64 further_ns = (__u64)(now - before) << LATENCY_UNIT_SHIFT;
	if (now <= before || further_ns > LONGEST_PAUSE_NS)
		return;
	if (__sync_val_compare_and_swap(&conn->took_units, before, now) != before)
		return; /* another processor has moved it */
	__sync_fetch_and_add(&stats->latency_sum_ns, further_ns);
	__sync_fetch_and_add(&stats->transfer_sum_ns, further_ns);
	if (key.role == ROLE_SERVER)
		move_weight(key.cgroup_id, after_units(start_ns, before), after_units(start_ns, now));
	__u32 from = latency_bucket(before), to = latency_bucket(now);
	if (from == to)
		return;
	__sync_fetch_and_add(&stats->latency[from], -1);
	__sync_fetch_and_add(&stats->latency[to], 1);
}

#endif
