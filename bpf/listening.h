/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Packets of connections that have no socket yet, or one that is not established: whose state they are read with.
 */
#ifndef HEADROOM_LISTENING_H
#define HEADROOM_LISTENING_H

/* All zeros: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct early);
} no_early SEC(".maps");

/* Of the early packet at hand: the stack is short. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ends);
} early_ends SEC(".maps");

/* Those of an incoming packet's connection, into this processor's room for them. */
static __always_inline struct ends *find_ends(struct __sk_buff *skb, const struct segment *segment)
{
	__u32 first = 0;
	__u16 ports[2] = {};
	struct ends *ends = bpf_map_lookup_elem(&early_ends, &first);
	if (!ends)
		return NULL;
	__builtin_memset(ends, 0, sizeof(*ends));
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		bpf_skb_load_bytes(skb, 8, ends->remote, 16);
		bpf_skb_load_bytes(skb, 24, ends->local, 16);
	} else {
		bpf_skb_load_bytes(skb, 12, ends->remote, 4);
		bpf_skb_load_bytes(skb, 16, ends->local, 4);
	}
	bpf_skb_load_bytes(skb, segment->ip_bytes, ports, sizeof(ports));
	ends->remote_port = ports[0];
	ends->local_port = ports[1];
	return ends;
}

static __always_inline struct early *early_at_hand(void)
{
	__u32 first = 0;
	struct ends *ends = bpf_map_lookup_elem(&early_ends, &first);
	return ends ? bpf_map_lookup_elem(&early_connections, ends) : NULL;
}

/* The state of a packet's connection that has no socket yet. */
static __always_inline struct early *early_of(struct __sk_buff *skb, const struct segment *segment)
{
	__u32 first = 0;
	struct ends *ends = find_ends(skb, segment);
	struct early *nothing = bpf_map_lookup_elem(&no_early, &first);
	if (!ends || !nothing)
		return NULL;
	struct early *early = bpf_map_lookup_elem(&early_connections, ends);
	if (early && is_of(early, segment->sequence))
		return early;
	bpf_map_update_elem(&early_connections, ends, nothing, early ? BPF_ANY : BPF_NOEXIST); /* another one's may be there by now */
	return bpf_map_lookup_elem(&early_connections, ends);
}

/* The two states of a packet's connection; NULL when there is none. */
static __always_inline struct conversation *conversation_of(struct __sk_buff *skb, struct connection **conn)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return NULL;
	if (sk->state == BPF_TCP_LISTEN) {
		struct early *early = early_at_hand();
		if (!early)
			return NULL;
		asm volatile("" : "+r"(early)); /* so that nothing is added to it before it is known to be there */
		*conn = &early->conn;
		return &early->conv;
	}
	*conn = bpf_sk_storage_get(&connections, sk, NULL, 0);
	return *conn ? bpf_sk_storage_get(&conversations, sk, NULL, 0) : NULL;
}

#endif
