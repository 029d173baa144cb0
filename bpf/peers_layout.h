/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What peers.bpf.c shares with user space; bpf/layout.py mirrors it.
 */
#ifndef HEADROOM_PEERS_LAYOUT_H
#define HEADROOM_PEERS_LAYOUT_H

/* Who a cgroup's connections go to, or come from. */
struct peer_key {
	__u64 cgroup_id;
	__u32 address[4]; /* as on the wire; IPv4 in the first; all zeros for whoever is not kept apart */
	__u16 port;       /* of the server's end, as on the wire */
	__u8 role;        /* enum role: SERVER where the peer opened the connection */
	__u8 reserved;
	__u32 family;     /* 4 or 6; 0 for the public internet, 1 for those that the full table could not take */
};

struct peer_bytes {
	__u64 sent; /* payload, each byte once */
	__u64 received;
	__u64 connections; /* that had payload, or ended */
};

/* An address that a cgroup's sockets have; with a port where it answers there. */
struct home_key {
	__u64 cgroup_id;
	__u32 address[4];
	__u32 family;
	__u16 port; /* as on the wire; 0: any */
	__u16 reserved;
};

#define MOST_PEERS 16384
#define MOST_OTHERS 2048 /* one for each cgroup and role */

enum peers_loss {
	PEERS_LOSS_NO_ENTRY,  /* a cgroup's bytes with a peer are not counted */
	PEERS_LOSS_NO_HOME,   /* an address of a cgroup's own is not kept */
	PEERS_LOSS_NOT_APART, /* counted, but among others */
	PEERS_LOSS_REASONS,
};

#endif
