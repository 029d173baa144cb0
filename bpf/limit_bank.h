/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The limit bank: what each candidate CPU limit would have done to the work of a cgroup.
 *
 * CFS hands a cgroup `quota` of CPU time per period of 100 ms, and stops it until the next
 * period when that is gone. So out of the on-CPU time that the cgroup took per 10 ms bin
 * without (or with a looser) limit, each candidate's backlog follows bin by bin:
 *
 *     want = backlog + used      run = min(want, parallel * bin, left + slack)
 *     left -= run                backlog = want - run
 *
 * and the delay of the work that arrived in the bin is the time the candidate needs to
 * drain that backlog. It does not depend on what arrives later, so it is known at once.
 *
 * Candidates ascend. A larger one never has more backlog than a smaller one, so those with
 * a backlog or a debt are a prefix [0, dirty), and the rest all have quota - period_used
 * left: an idle or lightly loaded cgroup costs one comparison per bin.
 */
#ifndef HEADROOM_LIMIT_BANK_H
#define HEADROOM_LIMIT_BANK_H

/* A running thread is stopped at the scheduler's tick, not at the very end of the quota:
 * on average half a 4 ms tick late, repaid in the next period. */
#define QUOTA_SLACK_NS 2000000LL

static __always_inline __u64 smaller(__u64 a, __u64 b) { return a < b ? a : b; }

/* Time from the end of a bin until its backlog is served, in delay units. */
static __always_inline __u32 drain_delay(const struct limit_state *limit, __u32 bins_left, __u32 parallel)
{
	__u64 backlog = limit->backlog_ns, rest = bins_left * BIN_NS;
	if (!backlog)
		return 0;
	__u64 left = limit->left_ns > 0 ? limit->left_ns : 0;
	__u64 now = smaller(left, rest * parallel);
	if (backlog <= now)
		return backlog / parallel >> DELAY_UNIT_SHIFT;
	backlog -= now;
	if (limit->left_ns < 0)
		backlog += -limit->left_ns; /* the debt is paid first */
	__u64 per_period = smaller(limit->quota_ns, PERIOD_NS * parallel);
	if (!per_period)
		return ~0U >> 1;
	__u64 periods = backlog / per_period;
	__u64 delay = rest + periods * PERIOD_NS + (backlog - periods * per_period) / parallel;
	delay >>= DELAY_UNIT_SHIFT;
	return delay < 1U << 30 ? delay : 1U << 30;
}

static __always_inline __u32 delay_bucket(__u32 units)
{
	__u32 bucket = units;
	if (units >= 4) {
		__u32 octave = 0, value = units;
		if (value >> 16) { value >>= 16; octave += 16; }
		if (value >> 8) { value >>= 8; octave += 8; }
		if (value >> 4) { value >>= 4; octave += 4; }
		if (value >> 2) { value >>= 2; octave += 2; }
		octave += value >> 1;
		bucket = (octave - 1) * 4 + ((units >> (octave - 2)) & 3);
	}
	asm volatile("" : "+r"(bucket)); /* so that the verifier sees the bound below */
	return bucket < DELAY_BUCKETS ? bucket : DELAY_BUCKETS - 1;
}

/* Half of a bin's work waits as long as its first unit, half as long as its last. */
static __always_inline void note_delay(struct limit_state *limit, __u32 units, __u64 work_ns)
{
	__u32 bucket = delay_bucket(units);
	if (bucket)
		limit->delayed_us[bucket] += work_ns / 2000;
}

/* One bin for one candidate that is, or with this bin becomes, dirty.
 * This and idle_limit are functions of their own: the verifier walks each once, not once per
 * candidate and caller. It asks for the null check. */
__noinline int step_limit(struct limit_state *limit, __u64 used, __u32 bins_left, __u32 parallel)
{
	if (!limit || !parallel)
		return 0;
	__u64 want = limit->backlog_ns + used;
	__s64 may = limit->left_ns + QUOTA_SLACK_NS;
	__u64 run = smaller(smaller(want, BIN_NS * parallel), may > 0 ? may : 0);
	limit->left_ns -= run;
	limit->backlog_ns = want - run;
	if (limit->backlog_ns && limit->left_ns <= 0 && !limit->throttled) {
		limit->throttled = 1;
		limit->throttled_periods++;
	}
	__u32 before = limit->delay_units;
	limit->delay_units = drain_delay(limit, bins_left, parallel);
	if (used) {
		note_delay(limit, before, used);
		note_delay(limit, limit->delay_units, used);
	}
	return 0;
}

/* Bins without work: a candidate serves what it still has, period by period. */
__noinline int idle_limit(struct limit_state *limit, __u32 bins_left, __u64 bins, __u32 parallel)
{
	if (!limit || !parallel)
		return 0;
	__u64 first = smaller(bins, bins_left), left = limit->left_ns > 0 ? limit->left_ns : 0;
	__u64 run = smaller(smaller(limit->backlog_ns, first * BIN_NS * parallel), left);
	limit->left_ns -= run;
	limit->backlog_ns -= run;
	bins -= first;
	if (bins) { /* the period ended: whole periods, then the part of one */
		__u64 per_period = smaller(limit->quota_ns, PERIOD_NS * parallel);
		__u64 debt = limit->left_ns < 0 ? -limit->left_ns : 0;
		__u64 backlog = limit->backlog_ns + debt, periods = bins / BINS_PER_PERIOD;
		__u64 needed = per_period ? backlog / per_period : 0;
		limit->throttled_periods += smaller(needed, periods);
		backlog -= smaller(backlog, periods * per_period);
		run = smaller(smaller(backlog, limit->quota_ns), (bins % BINS_PER_PERIOD) * BIN_NS * parallel);
		limit->left_ns = limit->quota_ns - run;
		limit->backlog_ns = backlog - run;
		limit->throttled = 0;
	}
	if (!limit->backlog_ns)
		limit->delay_units = 0;
	return 0;
}

#endif
