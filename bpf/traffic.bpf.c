// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Count and time HTTP/1.x requests where their packets pass a socket's cgroup.
 *
 *      packet in  --> observe(INGRESS) --.                          .--> request_stats
 *                                        +--> socket's connection --+
 *      packet out --> observe(EGRESS)  --'      (sk_storage)        '--> losses
 *
 * One request is outstanding per connection: a head opens it, the first "HTTP/1." line in
 * the other direction closes it. A request that comes in makes this socket the server's
 * end, one that goes out the client's. The clock runs from the packet that brings the
 * request's first byte to the packet that carries the answer's first byte, so the time a
 * throttled container waits before it even reads the request is inside.
 *
 * Passive: every packet passes (return 1), nothing of it is changed.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "traffic_layout.h"
#include "cpu_layout.h"
#include "http1.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_TCP 6
#define IPV6_HEADER_BYTES 40
#define TCP_HEADER_BYTES 20
#define LISTEN 10 /* BPF_TCP_LISTEN */

#define PASS 1

enum direction { INGRESS = 0, EGRESS = 1 };
enum phase { BETWEEN = 0, AWAITING_ANSWER = 1 };

/* 56 bytes: one cache line with the kernel's own 8, which goes from the processor that takes
 * the request in to the one that sends the answer. */
struct connection {
	struct request_key key; /* of the request in flight, or of the last one answered */
	__u64 start_ns;
	__u32 request_bytes;
	__u32 next_sequence[2]; /* per direction: the first byte not seen yet */
	__u8 sequence_known[2];
	__u8 phase;
	__u8 answered;          /* key names an answered request: later bytes are its body */
	__u8 adopted;           /* what came with the handshake has been taken over */
};

/* The two ends of a connection whose socket does not exist yet. */
struct ends {
	__u32 remote[4];
	__u16 remote_port, local_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

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

/* A client may send its first request with the last packet of the handshake. That packet
 * passes the listening socket, before the connection's own is made: its state waits here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct ends);
	__type(value, struct connection);
} early_connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
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
__noinline __u64 new_route(__u64 hash, __u32 from, __u32 length, __u32 whole)
{
	__u32 first = 0;
	struct head *head = bpf_map_lookup_elem(&heads, &first);
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
__noinline __u64 route_at(__u32 from, __u32 length, __u64 last)
{
	__u32 first = 0;
	struct head *head = bpf_map_lookup_elem(&heads, &first);
	if (!head)
		return ROUTE_OVERFLOW;
	struct path path;
	read_path(head, from, length, &path);
	if (!path.whole)
		lose(LOSS_ROUTE_CUT);
	if (path.hash == last || bpf_map_lookup_elem(&routes, &path.hash))
		return path.hash;
	return new_route(path.hash, from, path.length, path.whole);
}

/* A segment that may open a request. */
static __always_inline void open_request(struct __sk_buff *skb, struct connection *conn,
					 struct bpf_sock *sk, __u32 offset, __u32 length, enum direction direction)
{
	__u32 first = 0, method_bytes = 0;
	struct head *head = bpf_map_lookup_elem(&heads, &first);
	__u32 head_bytes = length < HEAD_BYTES ? length : HEAD_BYTES;
	if (!head || head_bytes < REQUEST_MIN_BYTES || bpf_skb_load_bytes(skb, offset, head->bytes, head_bytes))
		return;
	enum method method = method_of(*(__u64 *)head->bytes, &method_bytes);
	if (method == METHOD_NONE)
		return;
	conn->start_ns = bpf_ktime_get_ns();
	if (!conn->key.cgroup_id)
		conn->key.cgroup_id = bpf_sk_cgroup_id(sk);
	conn->key.route = route_at(method_bytes, head_bytes, conn->key.route);
	conn->key.method = method;
	conn->key.role = direction == INGRESS ? ROLE_SERVER : ROLE_CLIENT;
	conn->key.status = 0;
	conn->request_bytes = length;
	conn->answered = 0;
	conn->phase = AWAITING_ANSWER;
}

/* The status in this segment's first line, or 0. */
static __always_inline __u16 read_status(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	struct { __u64 word; __u32 digits; } line;
	if (length < STATUS_LINE_BYTES || bpf_skb_load_bytes(skb, offset, &line, STATUS_LINE_BYTES))
		return 0;
	return status_of(line.word, line.digits);
}

/* So that the limit bank weighs the delays of this moment by the requests that got them. */
static __always_inline void weigh_bin(__u64 cgroup_id, __u64 now)
{
	struct cgroup_cpu *cg = bpf_map_lookup_elem(&shared_cgroup_cpus, &cgroup_id);
	if (cg)
		__sync_fetch_and_add(&cg->open_answers[now / BIN_NS % OPEN_BINS], 1);
}

static __always_inline void close_request(struct connection *conn, __u16 status, __u32 length)
{
	__u64 now = bpf_ktime_get_ns(), latency_ns = now - conn->start_ns;
	conn->key.status = status;
	conn->phase = BETWEEN;
	struct request_stats *stats = stats_of(&conn->key);
	if (!stats) {
		lose(LOSS_NO_STATS_ENTRY);
		return;
	}
	conn->answered = 1;
	if (conn->key.role == ROLE_SERVER)
		weigh_bin(conn->key.cgroup_id, now);
	__sync_fetch_and_add(&stats->latency[latency_bucket(latency_ns)], 1);
	__sync_fetch_and_add(&stats->latency_sum_ns, latency_ns);
	__sync_fetch_and_add(&stats->request_bytes, conn->request_bytes);
	__sync_fetch_and_add(&stats->response_bytes, length);
}

/* Cut what was seen before off the front of a segment; 0 when nothing new is left. */
static __always_inline __u32 unseen(struct connection *conn, enum direction direction,
				    __u32 sequence, __u32 *offset, __u32 length)
{
	__u32 end = sequence + length;
	if (!conn->sequence_known[direction]) {
		conn->sequence_known[direction] = 1;
		conn->next_sequence[direction] = end;
		return length;
	}
	__s32 ahead = sequence - conn->next_sequence[direction];
	if (ahead > 0)
		lose(LOSS_SEQUENCE_GAP);
	if ((__s32)(end - conn->next_sequence[direction]) <= 0)
		return 0; /* a retransmission, or a segment that a later one overtook */
	conn->next_sequence[direction] = end;
	if (ahead >= 0)
		return length;
	*offset += -ahead;
	return length + ahead;
}

static __always_inline void payload(struct __sk_buff *skb, struct connection *conn, struct bpf_sock *sk,
				    __u32 offset, __u32 length, enum direction direction)
{
	enum direction request_direction = conn->key.role == ROLE_SERVER ? INGRESS : EGRESS;

	if (conn->phase == AWAITING_ANSWER) {
		if (direction == request_direction) { /* the request's body, unless it can have none */
			conn->request_bytes += length;
			__u64 word;
			__u32 ignored;
			if ((conn->key.method == METHOD_GET || conn->key.method == METHOD_HEAD) &&
			    length >= REQUEST_MIN_BYTES && !bpf_skb_load_bytes(skb, offset, &word, sizeof(word)) &&
			    method_of(word, &ignored) != METHOD_NONE)
				lose(LOSS_PIPELINED);
			return;
		}
		__u16 status = read_status(skb, offset, length);
		if (status >= 200 || status == 101)
			close_request(conn, status, length);
		else if (!status)
			conn->phase = BETWEEN; /* not HTTP after all */
		return;
	}
	if (conn->answered && direction != request_direction) { /* the rest of the answer's body */
		struct request_stats *stats = bpf_map_lookup_elem(&requests, &conn->key);
		if (stats)
			__sync_fetch_and_add(&stats->response_bytes, length);
		return;
	}
	open_request(skb, conn, sk, offset, length, direction);
	if (conn->phase == BETWEEN && !conn->answered && read_status(skb, offset, length))
		lose(LOSS_RESPONSE_WITHOUT_REQUEST);
}

struct segment {
	__u32 offset, length; /* of the payload */
	__u32 sequence;
	__u32 ip_bytes;
};

/* IP and TCP headers are in the linear part; a segment where they are not is left alone. */
static __always_inline bool find_payload(struct __sk_buff *skb, struct segment *segment)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 ip_bytes;
	if (data + IPV6_HEADER_BYTES > end) /* IPv4 and TCP together are no shorter */
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (data[9] != IPPROTO_TCP)
			return false;
		ip_bytes = (data[0] & 0xf) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (data[6] != IPPROTO_TCP)
			return false;
		ip_bytes = IPV6_HEADER_BYTES;
	} else {
		return false;
	}
	__u8 *tcp = data + ip_bytes;
	if (tcp + TCP_HEADER_BYTES > end)
		return false;
	segment->sequence = bpf_ntohl(*(__be32 *)(tcp + 4));
	segment->offset = ip_bytes + (tcp[12] >> 4) * 4;
	if (skb->len <= segment->offset) /* a bare acknowledgement */
		return false;
	segment->length = skb->len - segment->offset;
	segment->ip_bytes = ip_bytes;
	return true;
}

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

/* The state of this packet's connection: with its socket, or with its two ends before that. */
static __always_inline struct connection *connection_of(struct __sk_buff *skb, struct bpf_sock *sk,
							const struct segment *segment, enum direction direction)
{
	struct ends ends = {};
	struct connection *early;
	if (sk->state == LISTEN) {
		struct connection fresh = {};
		find_ends(skb, segment, direction, &ends);
		bpf_map_update_elem(&early_connections, &ends, &fresh, BPF_NOEXIST);
		return bpf_map_lookup_elem(&early_connections, &ends);
	}
	struct connection *conn = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn || conn->adopted)
		return conn;
	find_ends(skb, segment, direction, &ends);
	early = bpf_map_lookup_elem(&early_connections, &ends);
	if (early) {
		*conn = *early;
		bpf_map_delete_elem(&early_connections, &ends);
	}
	conn->adopted = 1;
	return conn;
}

static __always_inline int observe(struct __sk_buff *skb, enum direction direction)
{
	/* A packet without payload touches no state: the other direction may be at work on it. */
	struct segment segment;
	if (!find_payload(skb, &segment))
		return PASS;
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return PASS;
	struct connection *conn = connection_of(skb, sk, &segment, direction);
	if (!conn) {
		lose(LOSS_NO_SOCKET_STATE);
		return PASS;
	}
	__u32 offset = segment.offset;
	__u32 length = unseen(conn, direction, segment.sequence, &offset, segment.length);
	if (length)
		payload(skb, conn, sk, offset, length, direction);
	return PASS;
}

SEC("cgroup_skb/ingress")
int count_ingress(struct __sk_buff *skb)
{
	return observe(skb, INGRESS);
}

SEC("cgroup_skb/egress")
int count_egress(struct __sk_buff *skb)
{
	return observe(skb, EGRESS);
}
