/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What drops.bpf.c shares with user space; bpf/layout.py mirrors it.
 */
#ifndef HEADROOM_DROPS_LAYOUT_H
#define HEADROOM_DROPS_LAYOUT_H

struct drop_key {
	__u64 cgroup_id; /* 0: of no socket that the kernel names */
	__u32 reason;    /* the kernel's own number, which is another one in every release */
	__u32 reserved;
};

enum drops_loss { DROPS_LOSS_NO_ENTRY, DROPS_LOSS_REASONS };

#endif
