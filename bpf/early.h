/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What comes before its socket. A client may send its first request with the last packet of the handshake, and a server may
 * want a connection only with its first segment (TCP_DEFER_ACCEPT, as Apache does): that packet passes the listening
 * socket (listening.h). The connection's state waits here for the microsecond until it has a socket of its own
 * (lifecycle.bpf.c), or longer where packets come faster than that.
 */
#ifndef HEADROOM_EARLY_H
#define HEADROOM_EARLY_H

/* The two ends of a connection whose socket does not exist yet, as on the wire. */
struct ends {
	__u32 remote[4], local[4];
	__u16 remote_port, local_port;
};

#define NEAR 0x100000U /* bytes */
#define MOST_EARLY_ROWS 32 /* of looks, some 100 us in all */

struct early {
	struct connection conn;
	struct conversation conv;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct ends);
	__type(value, struct early);
} early_connections SEC(".maps");

/* Whether what waits is of this connection: an earlier one may have had the same ends, and began elsewhere. */
static __always_inline bool is_of(const struct early *early, __u32 client_sequence)
{
	return client_sequence - early->conn.next_sequence[INGRESS] + NEAR < 2 * NEAR;
}

/* The state of a connection that has its socket now, if nobody else has taken it. */
static __always_inline struct early *take_early(const struct ends *ends, __u32 client_sequence)
{
	for (__u32 row = 0; row < MOST_EARLY_ROWS; row++) {
		struct early *early = bpf_map_lookup_elem(&early_connections, ends);
		if (!early || !is_of(early, client_sequence))
			return NULL;
		if (!look_for_turn(&early->conn))
			continue; /* it is being read, or taken by another, who removes it */
		if (bpf_map_lookup_elem(&early_connections, ends) == early)
			return early;
		end_turn(&early->conn); /* by now it is another connection's */
	}
	lose(LOSS_NO_SOCKET_STATE);
	return NULL;
}

/* A connection's own socket takes over what came before it. */
static __always_inline void adopt(void *sk, const struct ends *ends, __u32 client_sequence)
{
	struct early *early = take_early(ends, client_sequence); /* whose turn is not given back: it is taken over once */
	if (!early)
		return;
	struct connection *conn = made_with(&connections, sk);
	struct conversation *conv = early->conn.reading ? made_with(&conversations, sk) : NULL;
	if (conn && (conv || !early->conn.reading) && take_turn(conn)) {
		if (conv)
			*conv = early->conv;
		*conn = early->conn;
		end_turn(conn);
	} else {
		lose(LOSS_NO_SOCKET_STATE);
	}
	bpf_map_delete_elem(&early_connections, ends);
}

#endif
