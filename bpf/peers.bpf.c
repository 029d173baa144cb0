// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Bytes by peer: who talks to whom, and how much.
 *
 *   once a window, every socket that had payload --.
 *   a socket's state becomes CLOSE ----------------+--> what TCP has counted since the last look --> peers
 *
 * TCP counts its bytes anyway: nothing is done for a packet. A connection that is open is looked at when user space
 * asks (the iterator), one that ends is looked at then. The sockets are those that traffic.bpf.c keeps something with.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel_types.h"
#include "peers_layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PROTOCOL_TCP 6
#define STREAM 1 /* include/linux/net.h */
#define MOST_TRIES 4 /* two looks at one socket at once are rare, three are not possible */

enum role { ROLE_SERVER = 0, ROLE_CLIENT = 1 };
enum family { PUBLIC_INTERNET, ANYBODY, IPV4 = 4, IPV6 = 6 };

/* What of a connection is in `peers` already. */
struct flow {
	__u64 sent;
	__u64 received;
	__u32 role; /* one more than enum role; 0 is not known */
	__u32 counted;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct flow);
} flows SEC(".maps");

/* That of traffic.bpf.c: here only to know the sockets. */
struct connection { __u64 words[7]; };

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct peer_key);
	__type(value, struct peer_bytes);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct home_key);
	__type(value, __u64);
} homes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PEERS_LOSS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} peers_losses SEC(".maps");

static __always_inline void lose(__u32 reason)
{
	__u64 *lost = bpf_map_lookup_elem(&peers_losses, &reason);
	if (lost)
		(*lost)++;
}

/* Raw sockets may say that their protocol is TCP. */
static __always_inline bool is_tcp(const struct sock *sk)
{
	return sk->sk_protocol == PROTOCOL_TCP && sk->sk_type == STREAM;
}

/* The peer's address, or our own; IPv4 in IPv6 as IPv4. */
static __always_inline __u32 address_of(const struct sock *sk, bool own, __u32 *address)
{
	const struct sock_common *common = &sk->__sk_common;
	if (common->skc_family == FAMILY_INET6) {
		bpf_probe_read_kernel(address, 16, own ? &common->skc_v6_rcv_saddr : &common->skc_v6_daddr);
		if (address[0] || address[1] || address[2] != bpf_htonl(0xffff))
			return IPV6;
	}
	address[0] = own ? common->skc_rcv_saddr : common->skc_daddr;
	address[1] = address[2] = address[3] = 0;
	return IPV4;
}

/* Whether anybody may have this address: the internet's clients are not told apart. */
static __always_inline bool is_public(__u32 family, const __u32 *address)
{
	__u32 first = bpf_ntohl(address[0]);
	if (family == IPV6)
		return first >> 29 == 1; /* 2000::/3 */
	__u32 top = first >> 24;
	return top != 10 && top != 127 && first >> 20 != 0xac1 && first >> 16 != 0xc0a8 && first >> 16 != 0xa9fe &&
	       first >> 22 != 0x191; /* RFC 1918, loopback, link-local, and 100.64.0.0/10 of carriers and clouds */
}

static __always_inline void settle_home(__u64 cgroup_id, const struct sock *sk, __u16 port)
{
	struct home_key home = { .cgroup_id = cgroup_id, .port = port };
	__u64 seen = 1;
	home.family = address_of(sk, true, home.address);
	if (!port && home.family == IPV4 && bpf_ntohl(home.address[0]) >> 24 == 127)
		return; /* everybody's */
	if (!bpf_map_lookup_elem(&homes, &home) && bpf_map_update_elem(&homes, &home, &seen, BPF_ANY))
		lose(PEERS_LOSS_NO_HOME);
}

/* What TCP has counted beyond `*settled`, which is then up to date. */
static __always_inline __u64 take_new(__u64 *settled, __u64 now)
{
	for (__u32 i = 0; i < MOST_TRIES; i++) {
		__u64 before = *settled;
		if (now <= before)
			return 0;
		if (__sync_val_compare_and_swap(settled, before, now) == before)
			return now - before;
	}
	return 0;
}

static __always_inline struct peer_bytes *bytes_of(struct peer_key *key)
{
	struct peer_bytes *bytes = bpf_map_lookup_elem(&peers, key), nothing = {};
	if (bytes)
		return bytes;
	bpf_map_update_elem(&peers, key, &nothing, BPF_NOEXIST);
	bytes = bpf_map_lookup_elem(&peers, key);
	if (bytes)
		return bytes;
	lose(PEERS_LOSS_NO_ENTRY);
	key->family = ANYBODY;
	key->port = 0;
	__builtin_memset(key->address, 0, sizeof(key->address));
	bpf_map_update_elem(&peers, key, &nothing, BPF_NOEXIST);
	return bpf_map_lookup_elem(&peers, key);
}

/* As on the wire. A socket that closes has given up its number, but not this. */
static __always_inline __u16 own_port_of(const struct sock *sk)
{
	__u16 port = 0;
	bpf_probe_read_kernel(&port, sizeof(port), &((const struct inet_sock *)sk)->inet_sport);
	return port;
}

/* Who opened a connection that is older than we are: services have the lower port. */
static __always_inline __u32 likely_role(const struct sock *sk)
{
	return bpf_ntohs(sk->__sk_common.skc_dport) < bpf_ntohs(own_port_of(sk)) ? ROLE_CLIENT : ROLE_SERVER;
}

/* Payload, each byte once. */
static __always_inline void read_tcp(const struct sock *sk, __u64 *sent, __u64 *received)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
	__u64 again = 0, flags = 0;
	bpf_probe_read_kernel(sent, sizeof(*sent), &tcp->bytes_sent);
	bpf_probe_read_kernel(&again, sizeof(again), &tcp->bytes_retrans);
	bpf_probe_read_kernel(received, sizeof(*received), &tcp->bytes_received);
	bpf_probe_read_kernel(&flags, sizeof(flags), &sk->__sk_common.skc_flags);
	*sent -= again;
	if (*received && flags & SOCK_DONE_BIT) /* the other end's FIN counts as a byte */
		(*received)--;
}

static __always_inline void settle(struct sock *sk, struct flow *flow)
{
	__u64 sent, received;
	read_tcp(sk, &sent, &received);
	sent = take_new(&flow->sent, sent);
	received = take_new(&flow->received, received);
	__u32 is_new = !__sync_val_compare_and_swap(&flow->counted, 0, 1);
	if (!sent && !received && !is_new)
		return;
	struct peer_key key = { .cgroup_id = cgroup_of(sk), .role = flow->role ? flow->role - 1 : likely_role(sk) };
	key.family = address_of(sk, false, key.address);
	__u16 own_port = own_port_of(sk);
	key.port = key.role == ROLE_CLIENT ? sk->__sk_common.skc_dport : own_port;
	if (key.role == ROLE_SERVER && is_public(key.family, key.address)) {
		key.family = PUBLIC_INTERNET;
		__builtin_memset(key.address, 0, sizeof(key.address));
	}
	struct peer_bytes *bytes = bytes_of(&key);
	if (bytes) {
		__sync_fetch_and_add(&bytes->sent, sent);
		__sync_fetch_and_add(&bytes->received, received);
		__sync_fetch_and_add(&bytes->connections, is_new);
	}
	settle_home(key.cgroup_id, sk, key.role == ROLE_SERVER ? own_port : 0);
	if (key.role == ROLE_SERVER)
		settle_home(key.cgroup_id, sk, 0);
}

SEC("iter/bpf_sk_storage_map")
int look_at_open(struct bpf_iter__bpf_sk_storage_map *context)
{
	struct sock *sk = context->sk;
	if (!sk || !context->value || !is_tcp(sk))
		return 0;
	struct flow *flow = bpf_sk_storage_get(&flows, sk, NULL, 0);
	if (flow) {
		settle(sk, flow);
		return 0;
	}
	flow = bpf_sk_storage_get(&flows, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (flow) /* it is older than we are: it counts from here */
		read_tcp(sk, &flow->sent, &flow->received);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(look_at_ends, struct sock *sk, int from, int to)
{
	struct flow *flow;
	if (!is_tcp(sk))
		return 0;
	if (to == BPF_TCP_ESTABLISHED && (from == BPF_TCP_SYN_SENT || from == BPF_TCP_SYN_RECV)) {
		flow = bpf_sk_storage_get(&flows, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (flow)
			flow->role = 1 + (from == BPF_TCP_SYN_SENT ? ROLE_CLIENT : ROLE_SERVER);
	} else if (to == BPF_TCP_CLOSE && from != BPF_TCP_CLOSE) {
		flow = bpf_sk_storage_get(&flows, sk, NULL, 0);
		if (flow)
			settle(sk, flow);
	}
	return 0;
}
