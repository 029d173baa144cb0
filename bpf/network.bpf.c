// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * What TCP went through, per cgroup: segments sent again, resets, connections that were not to be had.
 *
 *   tcp_retransmit_skb, tcp_send_reset, tcp_receive_reset, inet_sock_set_state --> network_counts
 *
 * None of these is on the way of an ordinary segment.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "network_layout.h"
#include "kernel_types.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PROTOCOL_TCP 6
#define ROUND_TRIP_SHIFT 3 /* srtt_us is kept in eighths */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, __u64); /* cgroup v2 id */
	__type(value, struct network_counts);
} networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NETWORK_LOSS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} network_losses SEC(".maps");

/* The counts of a socket's cgroup; NULL for half a socket, and when there is no room, which is a counted loss. */
static __always_inline struct network_counts *counts_of(struct sock *sk)
{
	if (!sk || !is_full(sk))
		return NULL;
	__u64 cgroup_id = cgroup_of(sk);
	struct network_counts *counts = bpf_map_lookup_elem(&networks, &cgroup_id);
	if (counts)
		return counts;
	struct network_counts fresh = {};
	bpf_map_update_elem(&networks, &cgroup_id, &fresh, BPF_NOEXIST);
	counts = bpf_map_lookup_elem(&networks, &cgroup_id);
	if (counts)
		return counts;
	__u32 reason = NETWORK_LOSS_NO_ENTRY;
	__u64 *lost = bpf_map_lookup_elem(&network_losses, &reason);
	if (lost)
		(*lost)++;
	return NULL;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(count_retransmit, struct sock *sk)
{
	struct network_counts *counts = counts_of(sk);
	if (counts)
		__sync_fetch_and_add(&counts->retransmits, 1);
	return 0;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(count_reset_sent, struct sock *sk)
{
	struct network_counts *counts = counts_of(sk);
	if (counts)
		__sync_fetch_and_add(&counts->resets_sent, 1);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(count_reset_received, struct sock *sk)
{
	struct network_counts *counts = counts_of(sk);
	if (counts)
		__sync_fetch_and_add(&counts->resets_received, 1);
	return 0;
}

static __always_inline void count_end(struct network_counts *counts, struct sock *sk, int from)
{
	__u32 round_trip = 0;
	if (from == BPF_TCP_SYN_SENT) {
		__sync_fetch_and_add(sk->sk_err == CONNECTION_REFUSED ? &counts->refused : &counts->failed, 1);
		return;
	}
	if (from == BPF_TCP_LISTEN || from == BPF_TCP_CLOSE)
		return;
	bpf_probe_read_kernel(&round_trip, sizeof(round_trip), &((struct tcp_sock *)sk)->srtt_us);
	__sync_fetch_and_add(&counts->ended, 1);
	__sync_fetch_and_add(&counts->round_trip_us, round_trip >> ROUND_TRIP_SHIFT);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(count_connection, struct sock *sk, int from, int to)
{
	if ((to != BPF_TCP_ESTABLISHED && to != BPF_TCP_CLOSE) || sk->sk_protocol != PROTOCOL_TCP)
		return 0;
	struct network_counts *counts = counts_of(sk);
	if (!counts)
		return 0;
	if (to == BPF_TCP_CLOSE)
		count_end(counts, sk, from);
	else if (from == BPF_TCP_SYN_SENT)
		__sync_fetch_and_add(&counts->opened, 1);
	else if (from == BPF_TCP_SYN_RECV)
		__sync_fetch_and_add(&counts->accepted, 1);
	return 0;
}
