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
#include "kernel_types.h"
#include "task_clock.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BIN_NS 10000000ULL
#define BINS 2048

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
	__type(value, struct task_clock);
} clocks SEC(".maps");

static __always_inline void add(__u64 bin, __u64 first, __u64 ran)
{
	__u32 index = bin - first;
	__u64 *time = bin >= first && bin - first < BINS ? bpf_map_lookup_elem(&bins, &index) : NULL;
	if (time)
		__sync_fetch_and_add(time, ran);
}

static __always_inline void charge(const struct watched *what, __u64 cgroup_id, __u64 now, __u64 ran)
{
	__u64 bin = now / BIN_NS, into = now % BIN_NS, last = ran < into ? ran : into;
	if (cgroup_id != what->cgroup_id)
		return;
	add(bin, what->first_bin, last);
	__u64 before = ran - last < BIN_NS ? ran - last : BIN_NS;
	add(bin - 1, what->first_bin, before);
	add(bin - 2, what->first_bin, ran - last - before);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(charge_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 zero = 0;
	__u64 now = bpf_ktime_get_ns();
	struct task_clock *clock = bpf_map_lookup_elem(&clocks, &zero);
	struct watched *what = bpf_map_lookup_elem(&watched, &zero);
	if (!clock || !what)
		return 0;
	__u64 ran = time_at_switch(clock, now, prev, next);
	charge(what, prev->pid ? prev->cgroups->dfl_cgrp->kn->id : 0, now, ran);
	return 0;
}

SEC("perf_event")
int charge_clock(void *ctx)
{
	__u32 zero = 0;
	__u64 now = bpf_ktime_get_ns();
	struct task_clock *clock = bpf_map_lookup_elem(&clocks, &zero);
	struct watched *what = bpf_map_lookup_elem(&watched, &zero);
	__u32 pid = bpf_get_current_pid_tgid();
	if (!clock || !what || !pid)
		return 0;
	__u64 at, ran = time_at_tick(clock, now, pid, &at);
	charge(what, bpf_get_current_cgroup_id(), at, ran);
	return 0;
}
