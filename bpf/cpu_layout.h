/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What cpu.bpf.c shares with user space; mirrored in bpf/layout.py.
 */
#ifndef HEADROOM_CPU_LAYOUT_H
#define HEADROOM_CPU_LAYOUT_H

#define BIN_NS 10000000ULL /* 10 ms: 20 ms costs little accuracy, 100 ms triples the error */
#define BINS_PER_PERIOD 10 /* CFS's default period, 100 ms */
#define PERIOD_NS (BIN_NS * BINS_PER_PERIOD)

/* On-CPU time of bins that are not closed yet: the current one, the one before it, which
 * other processors may still report to, and room for the processor that closes them. */
#define OPEN_BINS 8

#define MAX_LIMITS 32

/* A request answered in a bin got the delays of that bin's work, in proportion: in parts of one. */
#define REQUEST_PARTS 256

/* A bin is busy when the recent on-CPU time (a quarter less per bin) is over one and a half times its
 * mean over the last bins that had a weight: what is answered then has waited for others. */
#define RECENT_BINS 1024

/* Delay histogram: unit 131,072 ns, 4 linear buckets, then 4 per octave up to 8.6 s.
 * Bucket 0 is "no delay" and is not stored: it is the work less all other buckets. */
#define DELAY_UNIT_SHIFT 17
#define DELAY_BUCKETS 60

/* On-CPU time per bin, as a share of one CPU: 32 buckets of 6.25 %, the last one open. */
#define BURST_BUCKETS 32
#define BURST_UNIT_NS (BIN_NS / 16)

enum limit_period {
	PERIOD_THROTTLED = 1, /* out of quota, with work waiting */
	PERIOD_BEHIND = 2,    /* began with a backlog */
	PERIOD_AFTER = 4,     /* the one before had a backlog and no work of its own */
};

struct limit_state {
	__u64 quota_ns;   /* CPU time per period */
	__u64 backlog_ns; /* work that this limit would not have served yet */
	__s64 left_ns;    /* quota left in this period; negative: overrun to repay */
	__u32 delay_units; /* delay of the last unit of work */
	__u32 period;     /* enum limit_period, of the open period */
	__u32 throttled_periods;
	__u32 backlog_periods; /* active by a backlog alone, over those in cgroup_cpu.periods */
	__u32 delayed[DELAY_BUCKETS]; /* by the delay: requests in parts of one, or without any work in microseconds */
	__u32 delayed_busy[DELAY_BUCKETS]; /* what of it fell into busy bins */
};

struct cgroup_cpu {
	__u64 oncpu_ns;
	__u64 next_bin;       /* the first bin that is not closed */
	__u64 open_ns[OPEN_BINS];
	__u32 open_answers[OPEN_BINS]; /* traffic.bpf.c: requests answered in these bins */
	__u64 work_us;        /* work that went through the bank ... */
	__u64 answers;        /* ... and requests; from the first one on they are what weighs */
	__u64 busy_weight;    /* of all that was weighed, delayed or not, what fell into busy bins */
	__u64 recent_ns;      /* on-CPU time of this moment ... */
	__u64 mean_recent_ns; /* ... and its mean */
	__u64 period_used_ns;
	__u32 mean_of_bins;
	__u32 closing;        /* one processor at a time */
	__u32 periods;        /* periods with work, and the first one after: as nr_periods of cpu.stat */
	__u32 busy_before;    /* the period before the open one had work */
	__u32 dirty;          /* limits below this index have a backlog or a debt */
	__u32 parallel;       /* most CPUs that were busy at once in a bin */
	__u32 late_answers;    /* traffic.bpf.c: that came when many bins were still to be closed */
	__u32 carried_answers; /* of bins without any work: they weigh the next one that has some */
	__u32 bursts[BURST_BUCKETS];
	struct limit_state limits[MAX_LIMITS];
};

struct bank_config {
	__u32 limits;
	__u32 cpus;
	__u64 quota_ns[MAX_LIMITS]; /* ascending */
};

enum cpu_loss { CPU_LOSS_NO_ENTRY, CPU_LOSS_REASONS };

#endif
