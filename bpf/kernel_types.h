/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The kernel's own fields that are read, relocated at load time. Nothing else of these structures is known here.
 */
#ifndef HEADROOM_KERNEL_TYPES_H
#define HEADROOM_KERNEL_TYPES_H

#define FAMILY_INET6 10 /* include/linux/socket.h */

/* include/uapi/asm-generic/errno*.h */
enum { BROKEN_PIPE = 32, CONNECTION_ABORTED = 103, CONNECTION_RESET = 104, CONNECTION_REFUSED = 111 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node { __u64 id; };
struct cgroup { struct kernfs_node *kn; };

/* A task. */
struct css_set { struct cgroup *dfl_cgrp; };
struct sched_entity {
	__u64 exec_start;             /* the scheduler's clock when it last charged the task */
	__u64 sum_exec_runtime;       /* all that it was charged with */
	__u64 prev_sum_exec_runtime;  /* the same when it was last put on a processor, but for real-time tasks */
};
struct task_struct { int pid; struct css_set *cgroups; struct sched_entity se; };

/* A socket. */
struct in6_addr { __u32 in6_u[4]; };
struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
};
struct sock_cgroup_data { struct cgroup *cgroup; };
struct sock { struct sock_common __sk_common; __u16 sk_protocol; int sk_err; struct sock_cgroup_data sk_cgrp_data; };
struct tcp_sock { __u32 rcv_nxt, srtt_us; };
#pragma clang attribute pop

static __always_inline __u64 cgroup_of(const struct sock *sk)
{
	return sk->sk_cgrp_data.cgroup->kn->id;
}

#endif
