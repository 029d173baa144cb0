/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The kernel programs as a shared library: the real source, with bpf's helpers and maps
 * replaced by one cgroup, one configuration and some memory.
 *
 *   play() --> charge() --> close_bins() --> close_bin(), close_idle_bins()   all of cpu.bpf.c
 *   step() ---------------------------------> close_bin()                     bin by bin
 *   segment() --> payload() --> plain or read; the maps are one connection's   all of traffic.bpf.c
 *        '--> read_segment(), once it speaks HTTP/2                            all of http2.bpf.c
 *   ended() --> whatever still waits                                           all of lifecycle.bpf.c
 *   switched(), ticked() --> task_clock.h, on one processor's tasks
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <setjmp.h>

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define SEC(name)
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value) *name
#define BPF_PROG(name, ...) name(__VA_ARGS__)
#define preserve_access_index annotate("")
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_be64_to_cpu(x) __builtin_bswap64(x)

static void *bpf_map_lookup_elem(void *map, const void *key);
static long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags);
static __u64 bpf_get_current_task(void);
static long bpf_probe_read_kernel(void *to, __u32 length, const void *from) { return memcpy(to, from, length) ? 0 : -1; }
static __u64 now_ns = 1;
static __u64 bpf_ktime_get_ns(void) { return now_ns; }
static __u64 bpf_get_current_pid_tgid(void) { return 0; }
static __u64 bpf_get_current_cgroup_id(void) { return 0; }
static long bpf_map_delete_elem(void *map, const void *key);
static long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 length);
static __u64 bpf_sk_cgroup_id(void *sk) { return 7; }
static void *bpf_sk_storage_get(void *map, void *sk, void *value, __u64 flags);
static void bpf_tail_call(void *skb, void *map, __u32 index);

#include "cpu.bpf.c"

#define LICENSE traffic_license
#define losses traffic_losses
#define lose traffic_lose
#include "traffic.bpf.c"
#undef losses
#undef LICENSE
#define LICENSE http2_license
#define lose traffic_lose
#include "http2.bpf.c"
#undef LICENSE
#define LICENSE lifecycle_license
#include "lifecycle.bpf.c"

/* The maps. */
static struct cgroup_cpu cgroup, fresh;
static struct bank_config config;
static bool cgroup_exists;

#define MAX_TAIL_CALLS 33

/* One connection, what is counted of it, and the segment at hand. */
#define MOST_KEYS 64
static struct connection the_connection;
static struct conversation the_conversation;
static bool conversation_exists;
static struct http2 the_http2;
static struct held the_held;
static __u32 next_sequence[2];
static struct more_streams more_streams[MOST_MORE];
static bool more_exists[MOST_MORE];
static struct head the_heads[2];
static struct early the_early, without_early;
static bool early_exists;
static struct ends the_ends;
static struct request_stats no_stats;
static struct counted {
	struct request_key key;
	struct request_stats stats;
} counted[MOST_KEYS];
static __u32 keys;
static struct { __u64 hash; struct route_text text; } texts[MOST_KEYS];
static __u32 known_routes;
static struct prefix_key marks[MOST_KEYS];
static __u32 marked, brought, allowed = MOST_ROUTES_PER_OWNER;
static __u64 made_and_removed[2];
static __u64 lost[LOSS_REASONS];
static const __u8 *segment_bytes;
static __u32 segment_length;

static long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 length)
{
	if (offset > segment_length || length > segment_length - offset)
		return -1;
	memcpy(to, segment_bytes + offset, length);
	return 0;
}

static void *bpf_sk_storage_get(void *map, void *sk, void *value, __u64 flags)
{
	if (map == &connections)
		return &the_connection;
	if (map == &http2_connections)
		return &the_http2;
	if (map == &http2_held)
		return &the_held;
	void *further[] = { &http2_more_1, &http2_more_2, &http2_more_3, &http2_more_4 };
	for (int i = 0; i < MOST_MORE; i++)
		if (map == further[i]) {
			more_exists[i] |= flags != 0;
			return more_exists[i] ? &more_streams[i] : NULL;
		}
	conversation_exists |= flags != 0;
	return conversation_exists ? &the_conversation : NULL;
}

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	if (map == &heads)
		return &the_heads[*(const __u32 *)key & 1];
	if (map == &early_connections)
		return early_exists ? &the_early : NULL;
	if (map == &no_early)
		return &without_early;
	if (map == &early_ends)
		return &the_ends;
	if (map == &fresh_stats)
		return &no_stats;
	if (map == &traffic_losses)
		return &lost[*(const __u32 *)key];
	for (__u32 i = 0; map == &requests && i < keys; i++)
		if (!memcmp(&counted[i].key, key, sizeof(struct request_key)))
			return &counted[i].stats;
	for (__u32 i = 0; map == &routes && i < known_routes; i++)
		if (texts[i].hash == *(const __u64 *)key)
			return &texts[i].text;
	for (__u32 i = 0; map == &prefixes && i < marked; i++)
		if (!memcmp(&marks[i], key, sizeof(struct prefix_key)))
			return &marks[i];
	if (map == &routes_brought)
		return &brought;
	if (map == &routes_allowed)
		return &allowed;
	if (map == &kinds_made)
		return &made_and_removed[*(const __u32 *)key & 1];
	if (map == &cgroup_cpus || map == &shared_cgroup_cpus)
		return cgroup_exists ? &cgroup : NULL;
	if (map == &fresh_cgroup)
		return &fresh;
	if (map == &bank_config)
		return &config;
	return NULL;
}

static long bpf_map_delete_elem(void *map, const void *key)
{
	if (map != &early_connections || !early_exists)
		return -1;
	early_exists = false;
	return 0;
}

static long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags)
{
	if (map == &requests && keys < MOST_KEYS) {
		counted[keys].key = *(const struct request_key *)key;
		counted[keys++].stats = no_stats;
		return 0;
	}
	if (map == &routes && known_routes < MOST_KEYS) {
		texts[known_routes].hash = *(const __u64 *)key;
		texts[known_routes++].text = *(const struct route_text *)value;
		return 0;
	}
	if (map == &early_connections) {
		the_early = *(const struct early *)value;
		early_exists = true;
		return 0;
	}
	if (map != &cgroup_cpus || (flags == BPF_NOEXIST && cgroup_exists))
		return -1;
	cgroup = *(const struct cgroup_cpu *)value;
	cgroup_exists = true;
	return 0;
}

/* One cgroup that has not run yet, under these candidates. */
struct cgroup_cpu *reset(const __u64 *quota_ns, __u32 limits, __u32 cpus, __u32 parallel)
{
	memset(&fresh, 0, sizeof(fresh));
	cgroup_exists = false;
	config.limits = limits;
	config.cpus = cpus;
	fresh.parallel = parallel;
	for (__u32 i = 0; i < limits; i++)
		fresh.limits[i].quota_ns = config.quota_ns[i] = quota_ns[i];
	cgroup = fresh; /* what a reader sees of one that never runs */
	return &cgroup;
}

/* The interval [from, to) of one processor, charged at its end. */
void run(__u64 from, __u64 to)
{
	struct processor cpu = { .bin = from / BIN_NS, .bin_end_ns = (from / BIN_NS + 1) * BIN_NS };
	charge(&cpu, 1, to, to - from);
}

/* used_ns[i] of on-CPU time at the start of bin first + i, on as many processors as it takes; nothing
 * is called in a bin without any, as in the kernel. Then every bin up to the last one is closed. */
void play(__u64 first, const __u64 *used_ns, __u64 bins)
{
	for (__u64 i = 0; i < bins; i++)
		for (__u64 used = used_ns[i], part; used; used -= part) {
			part = used < BIN_NS ? used : BIN_NS;
			run((first + i) * BIN_NS, (first + i) * BIN_NS + part);
		}
	close_bins(1, first + bins);
}

/* The same bin by bin, work or none. */
void step(__u64 first, const __u64 *used_ns, __u64 bins)
{
	if (!cgroup_exists) {
		cgroup = fresh;
		cgroup_exists = true;
	}
	for (__u64 i = 0; i < bins; i++)
		close_bin(&cgroup, first + i, used_ns[i], config.limits, config.cpus);
	cgroup.next_bin = first + bins;
}

/* As traffic.bpf.c counts them. */
void answer(__u64 bin, __u32 requests)
{
	cgroup.open_answers[bin % OPEN_BINS] += requests;
}

/* Tasks of one processor, charged as the scheduler does. */
static struct task_struct tasks[4], *running = &tasks[0];
static struct task_clock the_clock;
static __u64 bpf_get_current_task(void) { return (__u64)running; }

void boot(void)
{
	memset(tasks, 0, sizeof(tasks));
	memset(&the_clock, 0, sizeof(the_clock));
	for (int pid = 0; pid < 4; pid++)
		tasks[pid].pid = pid;
	running = &tasks[0];
}

/* The scheduler charges the running task up to `stamp`, by its own clock. */
static void charge_running(__u64 stamp)
{
	running->se.sum_exec_runtime += stamp - running->se.exec_start;
	running->se.exec_start = stamp;
}

/* It puts `next` on; what the program makes of that, unless it does not see it. */
__u64 switched(__u64 now, __u64 stamp, __u32 next, bool seen)
{
	struct task_struct *prev = running;
	charge_running(stamp);
	running = &tasks[next];
	running->se.exec_start = stamp;
	running->se.prev_sum_exec_runtime = running->se.sum_exec_runtime;
	return seen ? time_at_switch(&the_clock, now, prev, running) : 0;
}

/* The scheduler's tick at `stamp`, and then our clock. */
__u64 ticked(__u64 now, __u64 stamp, __u64 *at)
{
	charge_running(stamp);
	return running->pid ? time_at_tick(&the_clock, now, running->pid, at) : 0;
}

__u64 charged_by_scheduler(__u32 pid) { return tasks[pid].se.sum_exec_runtime; }

void at(__u64 time_ns) { now_ns = time_ns; }

/* A new connection; nothing is counted yet. */
void hang_up(void)
{
	memset(&the_connection, 0, sizeof(the_connection));
	memset(&the_conversation, 0, sizeof(the_conversation));
	memset(lost, 0, sizeof(lost));
	memset(&the_http2, 0, sizeof(the_http2));
	memset(&the_held, 0, sizeof(the_held));
	memset(more_streams, 0, sizeof(more_streams));
	next_sequence[0] = next_sequence[1] = 1000;
	memset(more_exists, 0, sizeof(more_exists));
	conversation_exists = early_exists = false;
	keys = known_routes = marked = brought = 0;
	allowed = MOST_ROUTES_PER_OWNER;
	made_and_removed[0] = made_and_removed[1] = 0;
}

/* What collector/services.py says of its routes, and how much room is left. */
void mark(__u64 owner, __u64 prefix) { marks[marked++ % MOST_KEYS] = (struct prefix_key){ owner, prefix }; }
void allow(__u32 further_routes) { allowed = brought + further_routes; }
void make_kinds(__u64 kinds) { made_and_removed[0] = kinds; }

static jmp_buf segment_end;
static __u32 tail_calls;
static void bpf_tail_call(void *skb, void *map, __u32 index)
{
	if (++tail_calls > MAX_TAIL_CALLS)
		return;
	read_segment(skb, &the_connection, map == &http2_ingress_program ? INGRESS : EGRESS);
	longjmp(segment_end, 1); /* a program that was called does not return to the one that called it */
}

/* What a segment brings; `early`: with the handshake, `gap`: bytes before it that were not seen. What speaks HTTP/2 puts
 * its segments in order itself. */
static void bring(const __u8 *bytes, __u32 length, __u32 direction, bool early, __u32 gap, __u32 sequence)
{
	static struct bpf_sock socket;
	struct __sk_buff skb = { .sk = &socket };
	segment_bytes = bytes;
	segment_length = length;
	tail_calls = 0;
	if (setjmp(segment_end))
		return;
	socket.state = early ? BPF_TCP_LISTEN : BPF_TCP_ESTABLISHED;
	const struct segment segment = {
		.length = length, .sequence = sequence, .acknowledged = next_sequence[INGRESS],
	};
	if (early) {
		observe_early(&skb, &socket, &segment);
		return;
	}
	if (early_exists) {
		struct kernfs_node node = { 7 };
		struct cgroup its_cgroup = { &node };
		union { struct sock sk; struct tcp_sock tcp; } own = { .sk.sk_cgrp_data.cgroup = &its_cgroup };
		own.tcp.rcv_nxt = direction == INGRESS ? sequence : next_sequence[INGRESS];
		follow_connection(&own.sk, BPF_TCP_SYN_RECV, BPF_TCP_ESTABLISHED);
	}
	if (the_connection.phase != MULTIPLEXED) {
		payload(&skb, &the_connection, &socket, 0, length, direction, gap);
		the_connection.next_sequence[direction] = sequence + (the_connection.phase == MULTIPLEXED ? 0 : length);
	}
	if (the_connection.phase == MULTIPLEXED)
		hand_over(&skb, 0, length, direction, sequence);
}

void segment(const __u8 *bytes, __u32 length, __u32 direction, bool early, __u32 gap)
{
	__u32 sequence = next_sequence[direction] + gap;
	next_sequence[direction] = sequence + length;
	bring(bytes, length, direction, early, gap, sequence);
}

/* `at`: of this direction's bytes, counted from the last segment() on. */
void segment_at(const __u8 *bytes, __u32 length, __u32 direction, __u32 at)
{
	bring(bytes, length, direction, false, 0, next_sequence[direction] + at);
}

bool spoke_http2(void) { return the_connection.phase == MULTIPLEXED; }
bool was_read(void) { return conversation_exists; }
/* Its connection ends, which was in state `from`. */
void ended(__u32 from, int error)
{
	struct sock sk = { .sk_err = error };
	follow_connection(&sk, from, BPF_TCP_CLOSE);
}

struct counted *counted_at(__u32 index) { return index < keys ? &counted[index] : NULL; }
__u64 lost_by(__u32 reason) { return lost[reason]; }
const struct route_text *text_of(__u64 hash) { return bpf_map_lookup_elem(&routes, &hash); }

__u32 delay_bucket_of(__u32 units) { return delay_bucket(units); }
__u32 latency_bucket_of(__u64 nanoseconds) { return latency_bucket(latency_units(nanoseconds)); }

__u32 method_in(const char *text, __u32 *length)
{
	__u64 word;
	memcpy(&word, text, sizeof(word));
	return method_of(word, length);
}

/* As read_status: eight bytes, then four. */
__u32 status_in(const char *text)
{
	struct { __u64 word; __u32 digits; } line;
	memcpy(&line, text, STATUS_LINE_BYTES);
	return status_of(line.word, line.digits);
}

__u64 path_in(struct head *head, __u32 from, __u32 length)
{
	head->zero = 0; /* as in the map, where nothing writes it */
	__u64 hash = read_path(head, from, length, 0);
	copy_path(head, from);
	return hash;
}

__u32 size_of_head(void) { return sizeof(struct head); }
__u32 size_of_cgroup_cpu(void) { return sizeof(struct cgroup_cpu); }
__u32 size_of_bank_config(void) { return sizeof(struct bank_config); }
__u32 size_of_request_stats(void) { return sizeof(struct request_stats); }
