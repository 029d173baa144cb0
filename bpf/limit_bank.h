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

/* What a bin brings to every candidate. */
struct bin {
	__u64 used_ns;
	__u64 weight;
	__u32 bins_left; /* in its period */
	__u32 parallel;  /* CPUs that the cgroup can use at once */
	__u32 busy;
	__u32 reserved;
};

/* What a candidate may still run in this period, overrun included. */
static __always_inline __u64 may_run(const struct limit_state *limit)
{
	__s64 left = limit->left_ns + QUOTA_SLACK_NS;
	return left > 0 ? left : 0;
}

/* Time until `backlog` is served, from a moment with `bins_left` bins to go in its period; in
 * delay units. In later periods the debt of the one before and the new slack cancel out. */
static __always_inline __u32 drain_delay(const struct limit_state *limit, __u64 backlog, __u32 bins_left, __u32 parallel)
{
	__u64 rest = bins_left * BIN_NS, now = smaller(may_run(limit), rest * parallel);
	if (backlog <= now)
		return backlog / parallel >> DELAY_UNIT_SHIFT;
	backlog -= now;
	__u64 per_period = smaller(limit->quota_ns, PERIOD_NS * parallel);
	if (!per_period)
		return 1U << 30;
	__u64 periods = (backlog - 1) / per_period;
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

/* So much of the bin's work, and the same share of its weight, got this delay. */
static __always_inline void note_delay(struct limit_state *limit, const struct bin *bin, __u32 units, __u64 work_ns)
{
	__u32 bucket = delay_bucket(units);
	__u64 weight = bin->weight * work_ns / bin->used_ns;
	if (!bucket)
		return;
	limit->delayed[bucket] += weight;
	if (bin->busy)
		limit->delayed_busy[bucket] += weight;
}

/* Serve up to `bins` bins' worth of the backlog inside the open period. */
static __always_inline void serve(struct limit_state *limit, __u64 bins, __u32 parallel)
{
	__u64 run = smaller(smaller(limit->backlog_ns, bins * BIN_NS * parallel), may_run(limit));
	limit->left_ns -= run;
	limit->backlog_ns -= run;
	if (limit->backlog_ns && limit->left_ns <= 0 && !(limit->period & PERIOD_THROTTLED)) {
		limit->period |= PERIOD_THROTTLED;
		limit->throttled_periods++;
	}
}

/* The open period ends. The kernel counts one in which the cgroup ran and the first after it; those
 * that hold only because of this limit's backlog are counted here. Flags for the next period. */
static __always_inline __u32 close_period(struct limit_state *limit, bool had_work)
{
	if (!had_work && limit->period & PERIOD_AFTER)
		limit->backlog_periods++;
	return !had_work && limit->period & PERIOD_BEHIND ? PERIOD_AFTER : 0;
}

/* One bin for one candidate that is, or with this bin becomes, dirty.
 * This and idle_limit are functions of their own: the verifier walks each once, not once per
 * candidate and caller. It asks for the null check. */
__noinline int step_limit(struct limit_state *limit, const struct bin *bin)
{
	if (!limit || !bin || !bin->parallel)
		return 0;
	__u64 used = bin->used_ns;
	__u32 before = limit->delay_units, bins_left = bin->bins_left, parallel = bin->parallel;
	limit->backlog_ns += used;
	serve(limit, 1, parallel);
	limit->delay_units = drain_delay(limit, limit->backlog_ns, bins_left, parallel);
	if (!used)
		return 0;
	/* First come, first served: what waits at the end is the last that came. Its delay goes from
	 * that of its first unit to that of its last: half and half. If part of the bin was served,
	 * the first to wait came when that was over, and waited out the bin as well. */
	__u64 waiting = smaller(used, limit->backlog_ns);
	__u32 first = before;
	if (waiting && waiting < used)
		first = drain_delay(limit, 1, bins_left, parallel) + (waiting * BIN_NS / used >> DELAY_UNIT_SHIFT);
	note_delay(limit, bin, before, used - waiting);
	note_delay(limit, bin, first, waiting / 2);
	note_delay(limit, bin, limit->delay_units, waiting / 2);
	return 0;
}

/* Bins without work: what is left of the period, whole periods at once, the part of one. */
__noinline int idle_limit(struct limit_state *limit, __u32 bins_left, __u64 bins, __u32 parallel, bool had_work)
{
	if (!limit || !parallel)
		return 0;
	__u64 first = smaller(bins, bins_left);
	__u32 rest = bins_left - first;
	serve(limit, first, parallel);
	bins -= first;
	if (bins) {
		__u64 per_period = smaller(limit->quota_ns, PERIOD_NS * parallel), periods = bins / BINS_PER_PERIOD;
		__u64 debt = limit->left_ns < 0 ? -limit->left_ns : 0, owed = limit->backlog_ns + debt;
		/* A period throttles when more is owed than its quota and the slack; each serves a quota. */
		__u64 over = owed > QUOTA_SLACK_NS ? owed - QUOTA_SLACK_NS : 0;
		__u64 throttled = over && per_period ? smaller((over - 1) / per_period, periods) : 0;
		owed -= throttled * per_period;
		limit->throttled_periods += throttled;
		if (throttled)
			debt = QUOTA_SLACK_NS;
		/* Those that begin with a backlog; of the last whole period the end is not closed yet. */
		__u32 into = bins % BINS_PER_PERIOD;
		__u64 behind = throttled + (throttled < periods && owed > debt), closed = into ? periods : periods - 1;
		__u32 flags = close_period(limit, had_work);
		if (closed) {
			limit->backlog_periods += !!flags + smaller(behind, closed - 1);
			flags = behind >= closed ? PERIOD_AFTER : 0;
		}
		if (throttled < periods) { /* one more period serves the rest, and may overrun */
			debt = throttled + 1 == periods && owed > limit->quota_ns ? owed - limit->quota_ns : 0;
			owed = debt;
		}
		limit->backlog_ns = owed - debt;
		/* At a period's very end the next one is not open yet: open_period hands out its quota, less the debt. */
		limit->left_ns = (into ? (__s64)limit->quota_ns : 0) - (__s64)debt;
		limit->period = flags | ((into ? limit->backlog_ns > 0 : behind == periods) ? PERIOD_BEHIND : 0);
		if (into)
			serve(limit, into, parallel);
		rest = into ? BINS_PER_PERIOD - into : 0;
	}
	limit->delay_units = drain_delay(limit, limit->backlog_ns, rest, parallel);
	return 0;
}

#endif
