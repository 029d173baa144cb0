/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What network.bpf.c shares with user space; bpf/layout.py mirrors it.
 */
#ifndef HEADROOM_NETWORK_LAYOUT_H
#define HEADROOM_NETWORK_LAYOUT_H

/* Of one cgroup's TCP sockets. */
struct network_counts {
	__u64 retransmits;     /* segments sent again */
	__u64 resets_sent;
	__u64 resets_received;
	__u64 opened;          /* connections to others ... */
	__u64 accepted;        /* ... and from others */
	__u64 refused;         /* attempts that the other end refused ... */
	__u64 failed;          /* ... and those that nobody answered */
	__u64 ended;           /* connections that were closed ... */
	__u64 round_trip_us;   /* ... and the sum of their smoothed round trips */
};

enum network_loss { NETWORK_LOSS_NO_ENTRY, NETWORK_LOSS_REASONS };

#endif
