// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Packets that the kernel threw away, per cgroup and by its own reason.
 *
 *   kfree_skb --> the socket it was for --> drops
 *
 * What is consumed passes another tracepoint: an ordinary packet is not seen here. Since Linux 6.11 the kernel says which
 * socket a packet was for; before that, only packets on their way out are anybody's.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel_types.h"
#include "drops_layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define NOT_SPECIFIED 2 /* include/net/dropreason-core.h: below it nothing was dropped */
#define SOCKET_ARGUMENT 3

/* Set before loading: whether this kernel's tracepoint has that argument. */
const volatile bool names_socket = true;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct drop_key);
	__type(value, __u64);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROPS_LOSS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} drops_losses SEC(".maps");

static __always_inline void lose(__u32 reason)
{
	__u64 *lost = bpf_map_lookup_elem(&drops_losses, &reason);
	if (lost)
		(*lost)++;
}

static __always_inline __u64 owner_of(const struct sock *sk)
{
	return sk && is_full(sk) ? cgroup_of(sk) : 0;
}

SEC("tp_btf/kfree_skb")
int count_drop(__u64 *context)
{
	struct sk_buff *skb = (struct sk_buff *)context[0];
	struct drop_key key = { .reason = context[2] };
	__u64 one = 1;
	if (key.reason < NOT_SPECIFIED)
		return 0;
	if (names_socket)
		key.cgroup_id = owner_of((struct sock *)context[SOCKET_ARGUMENT]);
	if (!key.cgroup_id && skb)
		key.cgroup_id = owner_of(skb->sk);
	__u64 *count = bpf_map_lookup_elem(&drops, &key);
	if (!count && !bpf_map_update_elem(&drops, &key, &one, BPF_NOEXIST))
		return 0;
	count = count ?: bpf_map_lookup_elem(&drops, &key); /* another processor was first */
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		lose(DROPS_LOSS_NO_ENTRY);
	return 0;
}
