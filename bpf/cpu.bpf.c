// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Exact on-CPU time per cgroup in 10 ms bins, and the limit bank fed by it.
 *
 *   sched_switch ----.                                   .--> oncpu_ns, bursts
 *                    +--> account(cgroup, from, to) --> bins --> limit bank (limit_bank.h)
 *   100 Hz clock ----'
 *
 * The switch charges the task that leaves; the clock charges the one that stays, so that a
 * task that runs for seconds does not fall into one bin. A bin is closed when it is three
 * bins old: by then every processor's clock has reported what belongs to it, although what it
 * reports ends at the scheduler's last tick.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "cpu_layout.h"
#include "limit_bank.h"
#include "kernel_types.h"
#include "task_clock.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Preallocated: entries are made with the run queue locked. The loader sets the bound.
 * traffic.bpf.c shares this map and counts answers in it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u64); /* cgroup v2 id */
	__type(value, struct cgroup_cpu);
} cgroup_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bank_config);
} bank_config SEC(".maps");

/* What a new entry starts from; user space has put the quotas in. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_cpu);
} fresh_cgroup SEC(".maps");

struct processor {
	struct task_clock clock;
	__u64 bin;        /* the bin that the last charge ended in ... */
	__u64 bin_end_ns; /* ... and where it ends: saves a division per switch */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct processor);
} processors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CPU_LOSS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

static __always_inline void lose(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&losses, &reason);
	if (count)
		(*count)++;
}

static __always_inline void count_period(struct cgroup_cpu *cg)
{
	if (cg->period_used_ns || cg->busy_before)
		cg->periods++;
	cg->busy_before = cg->period_used_ns != 0;
	cg->period_used_ns = 0;
}

/* A new period: what is clean starts full, what is dirty keeps its backlog and its debt. */
static __always_inline void open_period(struct cgroup_cpu *cg, __u32 limits)
{
	__u32 dirty = 0;
	bool had_work = cg->period_used_ns;
	count_period(cg);
	for (__u32 i = 0; i < MAX_LIMITS; i++) {
		if (i >= cg->dirty || i >= limits)
			break;
		struct limit_state *limit = &cg->limits[i];
		__s64 debt = limit->left_ns < 0 ? limit->left_ns : 0;
		limit->left_ns = (__s64)limit->quota_ns + debt;
		limit->period = close_period(limit, had_work) | (limit->backlog_ns ? PERIOD_BEHIND : 0);
		if (limit->period || debt)
			dirty = i + 1;
	}
	cg->dirty = dirty;
}

/* Whether much ran just before, for this cgroup. What has a weight makes the mean that it is held against. */
static __always_inline bool is_busy(struct cgroup_cpu *cg, __u64 used, __u64 weight)
{
	__u64 recent = cg->recent_ns = cg->recent_ns - cg->recent_ns / 4 + used, mean = cg->mean_recent_ns;
	bool busy = recent > mean + mean / 2;
	if (!weight)
		return busy;
	__u32 bins = cg->mean_of_bins < RECENT_BINS ? ++cg->mean_of_bins : RECENT_BINS;
	cg->mean_recent_ns = recent > mean ? mean + (recent - mean) / bins : mean - (mean - recent) / bins;
	cg->busy_weight += busy ? weight : 0;
	return busy;
}

/* From its first answer on requests are what weighs: the histograms begin anew. Global, so that the verifier walks it once. */
__noinline int forget_work(struct cgroup_cpu *cg)
{
	if (!cg)
		return 0;
	for (__u32 i = 0; i < MAX_LIMITS; i++) {
		__builtin_memset(cg->limits[i].delayed, 0, sizeof(cg->limits[i].delayed));
		__builtin_memset(cg->limits[i].delayed_busy, 0, sizeof(cg->limits[i].delayed_busy));
	}
	cg->busy_weight = 0;
	return 0;
}

/* Global, so that the verifier walks it once. */
__noinline int close_bin(struct cgroup_cpu *cg, __u64 bin, __u64 used, __u32 limits, __u32 cpus)
{
	if (!cg)
		return 0;
	__u32 position = bin % BINS_PER_PERIOD;
	__u32 answers = __sync_lock_test_and_set(&cg->open_answers[bin % OPEN_BINS], 0);
	if (answers >> 31) /* one was taken away just after its bin was closed */
		answers = 0;
	answers += cg->carried_answers;
	cg->carried_answers = used ? 0 : answers; /* the last bytes of an answer can leave without its process */
	if (used && answers && !cg->answers)
		forget_work(cg);
	cg->answers += used ? answers : 0;
	if (position == 0)
		open_period(cg, limits);
	__u32 busy = (used + BIN_NS * 9 / 10) / BIN_NS; /* a tenth of a bin is no second CPU */
	if (busy > cg->parallel)
		cg->parallel = busy < cpus ? busy : cpus;
	struct bin now = { .used_ns = used, .bins_left = BINS_PER_PERIOD - 1 - position };
	now.parallel = cg->parallel ? cg->parallel : 1;
	if (used) {
		now.weight = cg->answers ? answers * REQUEST_PARTS : used / 1000;
		__u64 burst = used / BURST_UNIT_NS;
		asm volatile("" : "+r"(burst));
		cg->bursts[burst < BURST_BUCKETS ? burst : BURST_BUCKETS - 1]++;
		cg->work_us += used / 1000;
	}
	now.busy = is_busy(cg, used, now.weight);
	__u64 used_before = cg->period_used_ns;
	cg->period_used_ns += used;
	for (__u32 i = 0; i < MAX_LIMITS; i++) {
		if (i >= limits)
			break;
		struct limit_state *limit = &cg->limits[i];
		if (i >= cg->dirty) {
			if (cg->period_used_ns <= limit->quota_ns)
				break; /* clean, and so is every larger one */
			limit->backlog_ns = 0;
			limit->delay_units = 0;
			limit->period = 0;
			limit->left_ns = (__s64)limit->quota_ns - (__s64)used_before;
			cg->dirty = i + 1;
		}
		step_limit(limit, &now);
	}
	return 0;
}

/* Bins [cg->next_bin, end) without any work, at the price of one. */
static __always_inline void close_idle_bins(struct cgroup_cpu *cg, __u64 end, __u32 limits)
{
	__u64 bins = end - cg->next_bin;
	__u32 position = cg->next_bin % BINS_PER_PERIOD;
	__u32 bins_left = position ? BINS_PER_PERIOD - position : 0;
	__u32 parallel = cg->parallel ? cg->parallel : 1, dirty = 0;
	bool had_work = cg->period_used_ns;
	if (bins > bins_left)
		count_period(cg);
	if (bins > bins_left + BINS_PER_PERIOD)
		count_period(cg); /* the first whole one; no later one counts */
	for (__u32 i = 0; i < MAX_LIMITS; i++) {
		if (i >= cg->dirty || i >= limits)
			break;
		idle_limit(&cg->limits[i], bins_left, bins, parallel, had_work);
		if (cg->limits[i].period || cg->limits[i].left_ns < (__s64)cg->limits[i].quota_ns)
			dirty = i + 1;
	}
	cg->dirty = dirty;
	for (__u32 i = 0; i < 64 && i < bins; i++)
		cg->recent_ns -= cg->recent_ns / 4;
	cg->next_bin = end;
}

/* Close every bin before `end`. */
__noinline int close_bins(__u64 cgroup_id, __u64 end)
{
	__u32 first = 0;
	struct cgroup_cpu *cg = bpf_map_lookup_elem(&cgroup_cpus, &cgroup_id);
	struct bank_config *config = bpf_map_lookup_elem(&bank_config, &first);
	if (!cg || !config || __sync_val_compare_and_swap(&cg->closing, 0, 1))
		return 0; /* another processor is at it */
	/* After the last work at bin n the bins from n-3 to n can hold time, none later. */
	for (__u32 i = 0; i < 5; i++) {
		if (cg->next_bin >= end)
			break;
		__u64 used = __sync_lock_test_and_set(&cg->open_ns[cg->next_bin % OPEN_BINS], 0);
		close_bin(cg, cg->next_bin, used, config->limits, config->cpus);
		cg->next_bin++;
	}
	if (cg->next_bin < end)
		close_idle_bins(cg, end, config->limits);
	cg->closing = 0;
	return 0;
}

static __always_inline struct cgroup_cpu *entry_of(__u64 cgroup_id, __u64 bin)
{
	struct cgroup_cpu *cg = bpf_map_lookup_elem(&cgroup_cpus, &cgroup_id);
	if (cg)
		return cg;
	__u32 first = 0;
	struct cgroup_cpu *fresh = bpf_map_lookup_elem(&fresh_cgroup, &first);
	if (!fresh)
		return NULL;
	bpf_map_update_elem(&cgroup_cpus, &cgroup_id, fresh, BPF_NOEXIST);
	cg = bpf_map_lookup_elem(&cgroup_cpus, &cgroup_id);
	if (!cg)
		lose(CPU_LOSS_NO_ENTRY);
	else if (!cg->next_bin)
		cg->next_bin = bin > 2 ? bin - 2 : 0; /* the interval may have begun in the bins before */
	return cg;
}

/* Charge what this processor `ran`, up to `now`, to `cgroup_id`. */
static __always_inline void charge(struct processor *cpu, __u64 cgroup_id, __u64 now, __u64 ran)
{
	__u64 in_last_bin = ran;
	if (now >= cpu->bin_end_ns) {
		cpu->bin = now / BIN_NS;
		cpu->bin_end_ns = (cpu->bin + 1) * BIN_NS;
		__u64 into_bin = now - cpu->bin * BIN_NS;
		in_last_bin = ran < into_bin ? ran : into_bin;
	}
	struct cgroup_cpu *cg = entry_of(cgroup_id, cpu->bin);
	if (!cg)
		return;
	__sync_fetch_and_add(&cg->oncpu_ns, ran);
	if (cg->next_bin + 3 <= cpu->bin) {
		close_bins(cgroup_id, cpu->bin - 2);
		if (cg->late_answers) /* the first after a pause */
			__sync_fetch_and_add(&cg->open_answers[cpu->bin % OPEN_BINS], __sync_lock_test_and_set(&cg->late_answers, 0));
	}
	__sync_fetch_and_add(&cg->open_ns[cpu->bin % OPEN_BINS], in_last_bin);
	if (ran == in_last_bin)
		return;
	__u64 before = smaller(ran - in_last_bin, BIN_NS), rest = ran - in_last_bin - before;
	__sync_fetch_and_add(&cg->open_ns[(cpu->bin - 1) % OPEN_BINS], before);
	if (rest) /* one clock's report reaches back 14 ms at most */
		__sync_fetch_and_add(&cg->open_ns[(cpu->bin - 2) % OPEN_BINS], rest);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(charge_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 first = 0;
	__u64 now = bpf_ktime_get_ns();
	struct processor *cpu = bpf_map_lookup_elem(&processors, &first);
	if (!cpu)
		return 0;
	__u64 ran = time_at_switch(&cpu->clock, now, prev, next);
	if (ran)
		charge(cpu, prev->cgroups->dfl_cgrp->kn->id, now, ran);
	return 0;
}

SEC("perf_event")
int charge_clock(void *ctx)
{
	__u32 first = 0;
	__u64 now = bpf_ktime_get_ns();
	struct processor *cpu = bpf_map_lookup_elem(&processors, &first);
	if (!cpu)
		return 0;
	__u32 pid = bpf_get_current_pid_tgid();
	if (!pid)
		return 0; /* idle */
	__u64 at, ran = time_at_tick(&cpu->clock, now, pid, &at);
	if (ran)
		charge(cpu, bpf_get_current_cgroup_id(), at, ran);
	return 0;
}
