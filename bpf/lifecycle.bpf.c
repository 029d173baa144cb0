// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Where connections begin and end, as their sockets' states say.
 *
 *   SYN_RECV --> ESTABLISHED   what came before its socket is this connection's (early.h)
 *            --> CLOSE         whatever still waits gets no answer: counted, by who ended it
 *
 * The maps are those of traffic.bpf.c. Half-closed is not ended: a client may shut its sending side
 * and wait, and a server may answer one that is gone. So nothing is decided before both are done.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "traffic_layout.h"
#include "kernel_types.h"
#include "http1.h"
#include "counting.h"
#include "http1_stream.h"
#include "connection.h"
#include "turn.h"
#include "early.h"
#include "http2_connection.h"
#include "http2_streams.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Of a connection that was in state `from` when it ended. */
static __always_inline enum outcome outcome_of(int error, int from, bool is_server)
{
	bool was_reset = error == CONNECTION_RESET || error == BROKEN_PIPE;
	if (error && !was_reset && error != CONNECTION_ABORTED)
		return OUTCOME_TIMED_OUT;
	bool by_other = from == BPF_TCP_CLOSE_WAIT || from == BPF_TCP_LAST_ACK || (from == BPF_TCP_ESTABLISHED && was_reset);
	return by_other == is_server ? OUTCOME_ABORTED : OUTCOME_RESET;
}

static __always_inline void end_requests(struct connection *conn, struct conversation *conv, enum outcome outcome, __u64 now)
{
	struct request_key key = conn->key;
	key.status = 0;
	key.outcome = outcome;
	if (__sync_val_compare_and_swap(&conn->phase, AWAITING_ANSWER, BETWEEN) == AWAITING_ANSWER)
		add_request(&key, now - conn->start_ns, conn->request_bytes);
	if (!conv)
		return;
	__u32 answered = conv->answered, waiting = conv->asked - answered;
	conv->answered = conv->asked;
	for (__u32 i = 0; i < MOST_WAITING && i < waiting; i++) {
		const struct waiting *request = &conv->waiting[(answered + i) & (MOST_WAITING - 1)];
		key.route = request->route;
		key.method = request->method;
		if (conv->lost) /* its answer may have gone by unseen */
			lose(LOSS_UNANSWERED);
		else
			add_request(&key, now - request->start_ns, request->request_bytes);
	}
}

/* What is in a slot; nothing where an end may have gone by unseen. */
static __always_inline void end_slot(const struct connection *conn, struct stream_slot *slot, bool unseen,
				     enum outcome outcome, __u64 now)
{
	if (slot->stream && unseen && !is_answered(slot))
		lose(LOSS_UNANSWERED);
	else
		count_stream(conn, slot, outcome, now);
}

/* A function of its own, so that the verifier walks its loop once. */
__noinline int end_more(const struct connection *conn, struct more_streams *more, __u32 unseen, __u32 outcome, __u64 now)
{
	if (!conn || !more)
		return 0;
	for (__u32 i = 0; i < MORE_STREAMS; i++)
		end_slot(conn, &more->slots[i], unseen, outcome, now);
	return 0;
}

/* Whatever is in flight on a connection of many streams. */
static __always_inline void end_streams(struct sock *sk, const struct connection *conn, struct http2 *h,
					enum outcome outcome, __u64 now)
{
	bool unseen = h->lost & UNSEEN_ENDS;
	if (!h->proved) /* it may be another protocol */
		return;
	for (__u32 i = 0; i < FEW_STREAMS; i++)
		end_slot(conn, &h->few[i], unseen, outcome, now);
	for (__u32 i = 1; i <= MOST_MORE && i <= h->has_more; i++)
		end_more(conn, more_streams_of(sk, i, 0), unseen, outcome, now);
}

static __always_inline void begin_connection(struct sock *sk)
{
	struct ends ends = {
		.remote_port = sk->__sk_common.skc_dport,
		.local_port = bpf_htons(sk->__sk_common.skc_num),
	};
	__u32 received = 0;
	address_of(sk, false, ends.remote);
	address_of(sk, true, ends.local);
	bpf_probe_read_kernel(&received, sizeof(received), &((struct tcp_sock *)sk)->rcv_nxt);
	adopt(sk, &ends, received);
}

static __always_inline void end_connection(struct sock *sk, int from)
{
	struct connection *conn = bpf_sk_storage_get(&connections, sk, NULL, 0);
	if (!conn)
		return;
	struct conversation *conv = bpf_sk_storage_get(&conversations, sk, NULL, 0);
	enum outcome outcome = outcome_of(sk->sk_err, from, conn->key.role == ROLE_SERVER);
	__u64 now = bpf_ktime_get_ns();
	end_requests(conn, conv, outcome, now);
	struct http2 *h = conn->phase == MULTIPLEXED ? bpf_sk_storage_get(&http2_connections, sk, NULL, 0) : NULL;
	if (h)
		end_streams(sk, conn, h, outcome, now);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(follow_connection, struct sock *sk, int from, int to)
{
	if (from == BPF_TCP_SYN_RECV && to == BPF_TCP_ESTABLISHED)
		begin_connection(sk);
	else if (to == BPF_TCP_CLOSE && from != BPF_TCP_CLOSE)
		end_connection(sk, from);
	return 0;
}
