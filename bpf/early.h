/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What comes before its socket. A client may send its first request with the last packet of the handshake, and a server may
 * want a connection only with its first segment (TCP_DEFER_ACCEPT, as Apache does): that packet passes the listening
 * socket. The connection's state waits here until it has a socket of its own.
 */
#ifndef HEADROOM_EARLY_H
#define HEADROOM_EARLY_H

/* The two ends of a connection whose socket does not exist yet. */
struct ends {
	__u32 remote[4];
	__u16 remote_port, local_port;
};

#define NEAR 0x100000U /* bytes */

struct early {
	struct connection conn;
	struct conversation conv;
	__u32 taken; /* by the connection's own socket */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct ends);
	__type(value, struct early);
} early_connections SEC(".maps");

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

static __always_inline void find_ends(struct __sk_buff *skb, const struct segment *segment,
				      enum direction direction, struct ends *ends)
{
	__u16 ports[2] = {};
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_skb_load_bytes(skb, direction == EGRESS ? 24 : 8, ends->remote, 16);
	else
		bpf_skb_load_bytes(skb, direction == EGRESS ? 16 : 12, ends->remote, 4);
	bpf_skb_load_bytes(skb, segment->ip_bytes, ports, sizeof(ports));
	ends->remote_port = ports[direction == EGRESS];
	ends->local_port = ports[direction != EGRESS];
}

static __always_inline struct early *early_at_hand(void)
{
	__u32 first = 0;
	struct ends *ends = bpf_map_lookup_elem(&early_ends, &first);
	return ends ? bpf_map_lookup_elem(&early_connections, ends) : NULL;
}

/* Whether what waits is of this connection: an earlier one may have had the same ends, and began elsewhere. */
static __always_inline bool is_of(const struct early *early, __u32 client_sequence)
{
	return client_sequence - early->conn.next_sequence[INGRESS] + NEAR < 2 * NEAR;
}

/* The state of a packet's connection that has no socket yet. */
static __always_inline struct early *early_of(struct __sk_buff *skb, const struct segment *segment)
{
	__u32 first = 0;
	struct ends *ends = bpf_map_lookup_elem(&early_ends, &first);
	struct early *nothing = bpf_map_lookup_elem(&no_early, &first);
	if (!ends || !nothing)
		return NULL;
	__builtin_memset(ends, 0, sizeof(*ends));
	find_ends(skb, segment, INGRESS, ends);
	struct early *early = bpf_map_lookup_elem(&early_connections, ends);
	if (early && is_of(early, segment->sequence))
		return early;
	bpf_map_update_elem(&early_connections, ends, nothing, BPF_ANY);
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

/* The first segment that passes the connection's own socket: it takes over what came before. */
static __always_inline void adopt(struct __sk_buff *skb, struct bpf_sock *sk, const struct segment *segment,
				  enum direction direction, struct connection *conn)
{
	struct ends ends = {};
	find_ends(skb, segment, direction, &ends);
	struct early *early = bpf_map_lookup_elem(&early_connections, &ends);
	/* Both directions may be here at once: the second one must not undo what the first has read since. */
	if (early && is_of(early, direction == INGRESS ? segment->sequence : segment->acknowledged) &&
	    !__sync_val_compare_and_swap(&early->taken, 0, 1)) {
		struct conversation *conv = early->conn.reading ? made_with(&conversations, sk) : NULL;
		if (conv)
			*conv = early->conv;
		else if (early->conn.reading)
			lose(LOSS_NO_SOCKET_STATE);
		*conn = early->conn;
		bpf_map_delete_elem(&early_connections, &ends);
	}
	conn->adopted = 1;
}

#endif
