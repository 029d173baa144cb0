/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The kernel's own fields that are read, relocated at load time. Nothing else of these structures is known here.
 */
#ifndef HEADROOM_KERNEL_TYPES_H
#define HEADROOM_KERNEL_TYPES_H

#include <bpf/bpf_endian.h>

#define FAMILY_INET6 10 /* include/linux/socket.h */

/* include/uapi/asm-generic/errno*.h */
enum { BROKEN_PIPE = 32, CONNECTION_ABORTED = 103, CONNECTION_RESET = 104, CONNECTION_REFUSED = 111 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node { __u64 id; };
struct cgroup_root { int hierarchy_id; };
struct cgroup { struct kernfs_node *kn; struct cgroup_root *root; };

/* A task. */
struct css_set { struct cgroup *dfl_cgrp; };
struct sched_entity {
	__u64 exec_start;             /* the scheduler's clock when it last charged the task */
	__u64 sum_exec_runtime;       /* all that it was charged with */
	__u64 prev_sum_exec_runtime;  /* the same when it was last put on a processor, but for real-time tasks */
};
struct qstr { const unsigned char *name; };
struct dentry { struct qstr d_name; };
struct path___of_file { struct dentry *dentry; }; /* relocated as struct path: another is ours */
struct file { struct path___of_file f_path; };
struct mm_struct { struct file *exe_file; };
struct vm_area_struct { unsigned long vm_start, vm_pgoff; struct file *vm_file; };
struct task_struct {
	int pid, tgid;
	struct mm_struct *mm;
	struct css_set *cgroups;
	struct sched_entity se;
};

/* A socket. */
struct in6_addr { __u32 in6_u[4]; };
struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	__be32 skc_rcv_saddr;
	unsigned long skc_flags;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
};
struct sock_cgroup_data { struct cgroup *cgroup; };
struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol, sk_type;
	int sk_err;
	struct sock_cgroup_data sk_cgrp_data;
};
struct inet_sock { __be16 inet_sport; };
struct tcp_sock { __u32 rcv_nxt, srtt_us; __u64 bytes_sent, bytes_retrans, bytes_received; };
struct sk_buff { struct sock *sk; };

/* What an iterator over the mappings of all tasks is called with, and one over sockets' storage. */
struct bpf_iter__task_vma {
	__u64 meta;
	struct task_struct *task;
	struct vm_area_struct *vma;
};
struct bpf_iter__bpf_sk_storage_map {
	__u64 meta, map;
	struct sock *sk;
	void *value;
};
#pragma clang attribute pop

#define SOCK_DONE_BIT (1 << 1) /* include/net/sock.h: the other end has sent all */

/* Half a socket has no cgroup: one that waits for the end of its time, or for the handshake's. */
static __always_inline bool is_full(const struct sock *sk)
{
	unsigned char state = sk->__sk_common.skc_state;
	return state != BPF_TCP_TIME_WAIT && state != BPF_TCP_NEW_SYN_RECV;
}

static __always_inline __u64 cgroup_of(const struct sock *sk)
{
	return sk->sk_cgrp_data.cgroup->kn->id;
}

enum { IPV4 = 4, IPV6 = 6 };

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

#endif
