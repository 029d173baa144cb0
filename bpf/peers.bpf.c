// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Bytes by peer: who talks to whom, and how much.
 *
 *   once a window, every socket that had payload --.
 *   a socket's state becomes CLOSE ----------------+--> what TCP has counted since the last look --> peers
 *
 * TCP counts its bytes anyway: nothing is done for a packet. A connection that is open is looked at when user space
 * asks (the iterator), if traffic.bpf.c has seen payload of it; one that ends is looked at then.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel_types.h"
#include "traffic_layout.h"
#include "peers_layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PROTOCOL_TCP 6
#define STREAM 1 /* include/linux/net.h */
#define MOST_TRIES 4 /* two looks at one socket at once are rare, three are not possible */

enum family { PUBLIC_INTERNET, ANYBODY };

/* Set before loading: peers that are kept apart. Those beyond are `others`, for whom there is always room. */
const volatile __u32 most_peers = MOST_PEERS;

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
	__uint(max_entries, MOST_PEERS + MOST_OTHERS);
	__type(key, struct peer_key);
	__type(value, struct peer_bytes);
} peers SEC(".maps");

/* How many peers were put there, and how many user space has taken out again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} peers_made SEC(".maps");

/* When an address was last used, by the monotonic clock. */
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

/* Whether every network namespace has this address. */
static __always_inline bool is_everybody_s(const struct home_key *home)
{
	const __u32 *address = home->address;
	if (home->family == IPV4)
		return bpf_ntohl(address[0]) >> 24 == 127;
	return bpf_ntohl(address[0]) >> 22 == 0x3fa /* fe80::/10 */ ||
	       (!address[0] && !address[1] && !address[2] && address[3] == bpf_htonl(1));
}

static __always_inline void settle_home(__u64 cgroup_id, const struct sock *sk, __u16 port)
{
	struct home_key home = { .cgroup_id = cgroup_id, .port = port };
	__u64 now = bpf_ktime_get_ns(), *used;
	home.family = address_of(sk, true, home.address);
	if (!port && is_everybody_s(&home))
		return;
	used = bpf_map_lookup_elem(&homes, &home);
	if (used)
		*used = now;
	else if (bpf_map_update_elem(&homes, &home, &now, BPF_ANY))
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

/* Whether there is room for one more that is kept apart. */
static __always_inline bool has_room(const __u64 *made)
{
	__u32 slot = 1;
	__u64 *removed = bpf_map_lookup_elem(&peers_made, &slot);
	return made && removed && *made - *removed < most_peers;
}

static __always_inline struct peer_bytes *bytes_of(struct peer_key *key)
{
	struct peer_bytes *bytes = bpf_map_lookup_elem(&peers, key), nothing = {};
	if (bytes)
		return bytes;
	__u32 slot = 0;
	__u64 *made = bpf_map_lookup_elem(&peers_made, &slot);
	if (has_room(made)) {
		if (!bpf_map_update_elem(&peers, key, &nothing, BPF_NOEXIST) && made) /* or another processor was first */
			__sync_fetch_and_add(made, 1);
	} else {
		lose(PEERS_LOSS_NOT_APART);
		key->family = ANYBODY;
		key->port = 0;
		__builtin_memset(key->address, 0, sizeof(key->address));
		bpf_map_update_elem(&peers, key, &nothing, BPF_NOEXIST);
	}
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
	*sent = *sent > again ? *sent - again : 0;
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
	if (!bytes) {
		lose(PEERS_LOSS_NO_ENTRY);
	} else {
		__sync_fetch_and_add(&bytes->sent, sent);
		__sync_fetch_and_add(&bytes->received, received);
		__sync_fetch_and_add(&bytes->connections, is_new);
	}
	settle_home(key.cgroup_id, sk, 0);
	if (flow->role == 1 + ROLE_SERVER) /* and not only likely */
		settle_home(key.cgroup_id, sk, own_port);
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
		if (flow) /* a socket may have had another connection before */
			*flow = (struct flow){ .role = 1 + (from == BPF_TCP_SYN_SENT ? ROLE_CLIENT : ROLE_SERVER) };
	} else if (to == BPF_TCP_CLOSE && from != BPF_TCP_CLOSE) {
		flow = bpf_sk_storage_get(&flows, sk, NULL, 0);
		if (flow)
			settle(sk, flow);
	}
	return 0;
}
