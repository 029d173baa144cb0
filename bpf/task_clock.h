/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * CPU time by the scheduler's own clock: what cgroups report as used and what quota is charged with.
 *
 * It stands still while the host of a virtual machine runs something else (steal) and, where the
 * kernel accounts for them apart, during interrupts; the wall clock does not. A node that loses a
 * tenth of its time to its host would seem to use a tenth more CPU than its limits ever charge.
 */
#ifndef HEADROOM_TASK_CLOCK_H
#define HEADROOM_TASK_CLOCK_H

#define MOST_UNSEEN_NS 10000000ULL

/* Per processor. */
struct task_clock {
	__u64 charged_ns; /* up to here its time is charged, by the scheduler's clock */
	__u64 ahead_ns;   /* the monotonic clock is so far ahead of it */
	__u32 pid;        /* what was put on it last, as far as was seen */
};

/* What task `pid` ran up to `stamp`. A switch before it may have gone unseen: then it is what the scheduler has charged it
 * with since it was put on, and no more than a clock's period, since real-time tasks are not told apart there. */
static __always_inline __u64 time_until(struct task_clock *clock, __u32 pid, __u64 stamp, __u64 since_put_on)
{
	__u64 before = clock->charged_ns, ran = stamp - before;
	if (stamp <= before)
		return 0;
	clock->charged_ns = stamp;
	if (!before)
		return 0;
	if (pid != clock->pid && ran > MOST_UNSEEN_NS)
		ran = MOST_UNSEEN_NS;
	clock->pid = pid;
	return ran < since_put_on ? ran : since_put_on;
}

/* At a switch: `prev` was stamped when it stopped, and `next` just now, which can be later. The idle
 * task is not stamped on every kernel, and nobody is charged for its time. */
static __always_inline __u64 time_at_switch(struct task_clock *clock, __u64 now, struct task_struct *prev, struct task_struct *next)
{
	__u64 since_put_on = prev->se.sum_exec_runtime - prev->se.prev_sum_exec_runtime, ran = 0;
	if (prev->pid)
		ran = time_until(clock, prev->pid, prev->se.exec_start, since_put_on);
	if (next->pid) {
		clock->charged_ns = next->se.exec_start;
		clock->ahead_ns = now - next->se.exec_start;
	}
	clock->pid = next->pid;
	return ran;
}

/* Between switches: up to where the scheduler's tick has charged the running task, a few milliseconds ago; `*at` is that
 * moment by the monotonic clock. (A processor without a tick, nohz_full, reports late.) */
static __always_inline __u64 time_at_tick(struct task_clock *clock, __u64 now, __u32 pid, __u64 *at)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 stamp = 0, sum = 0, before = 0;
	bpf_probe_read_kernel(&stamp, sizeof(stamp), &task->se.exec_start);
	bpf_probe_read_kernel(&sum, sizeof(sum), &task->se.sum_exec_runtime);
	bpf_probe_read_kernel(&before, sizeof(before), &task->se.prev_sum_exec_runtime);
	*at = stamp + clock->ahead_ns;
	if (!clock->ahead_ns || *at > now)
		*at = now;
	return time_until(clock, pid, stamp, sum - before);
}

#endif
