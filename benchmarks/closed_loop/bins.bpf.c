// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * On-CPU time of one cgroup in 10 ms bins, kept raw: what the limit bank sees, for replay.
 * It charges as cpu.bpf.c does; the bank's own numbers are recorded beside it.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BIN_NS 10000000ULL
#define BINS 2048

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node { __u64 id; };
struct cgroup { struct kernfs_node *kn; };
struct css_set { struct cgroup *dfl_cgrp; };
struct task_struct { int pid; struct css_set *cgroups; };
#pragma clang attribute pop

struct watched {
	__u64 cgroup_id;
	__u64 first_bin;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct watched);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BINS);
	__type(key, __u32);
	__type(value, __u64);
} bins SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} since SEC(".maps");

static __always_inline void add(__u64 bin, __u64 first, __u64 ran)
{
	__u32 index = bin - first;
	__u64 *time = bin >= first && bin - first < BINS ? bpf_map_lookup_elem(&bins, &index) : NULL;
	if (time)
		__sync_fetch_and_add(time, ran);
}

static __always_inline void charge(__u64 cgroup_id)
{
	__u32 zero = 0;
	__u64 now = bpf_ktime_get_ns();
	__u64 *before = bpf_map_lookup_elem(&since, &zero);
	struct watched *what = bpf_map_lookup_elem(&watched, &zero);
	if (!before || !what)
		return;
	if (*before && cgroup_id == what->cgroup_id) {
		__u64 ran = now - *before, bin = now / BIN_NS, into = now % BIN_NS;
		__u64 last = ran < into ? ran : into;
		add(bin, what->first_bin, last);
		if (ran > last)
			add(bin - 1, what->first_bin, ran - last);
	}
	*before = now;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(charge_switch, bool preempt, struct task_struct *prev)
{
	charge(prev->pid ? prev->cgroups->dfl_cgrp->kn->id : 0);
	return 0;
}

SEC("perf_event")
int charge_clock(void *ctx)
{
	charge(bpf_get_current_pid_tgid() & 0xffffffff ? bpf_get_current_cgroup_id() : 0);
	return 0;
}
