/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Requests of an HTTP/2 connection from their first byte to the end of their stream.
 *
 *   request's header block --> open_stream() --> [slot] --> answer's header blocks, data --> end_stream() --> request_stats
 *
 * A stream's slot follows from its number, so that no search is needed: clients count in steps of two. One that is
 * taken, by a stream that has been open for long, makes way to the same place of the next table.
 */
#ifndef HEADROOM_HTTP2_STREAMS_H
#define HEADROOM_HTTP2_STREAMS_H

/* The slot that holds `stream`, or with 0 in `holds` a free one that it may have; tables are made as they are needed. */
static __always_inline struct stream_slot *find_slot(struct __sk_buff *skb, struct http2 *h, __u32 stream, __u32 holds)
{
	__u32 number = stream >> 1;
	struct stream_slot *slot = &h->few[number & (FEW_STREAMS - 1)];
	struct bpf_sock *sk = skb->sk;
	if (slot->stream == holds || !sk)
		return slot->stream == holds ? slot : NULL;
	for (__u32 i = 1; i <= MOST_MORE; i++) {
		bool is_new = i > h->has_more;
		if (is_new && holds)
			return NULL;
		struct more_streams *more = more_streams_of(sk, i, is_new ? BPF_SK_STORAGE_GET_F_CREATE : 0);
		if (!more)
			return NULL;
		if (is_new)
			h->has_more = i;
		slot = &more->slots[number & (MORE_STREAMS - 1)];
		if (slot->stream == holds)
			return slot;
	}
	return NULL;
}

/* A request's header block is complete. */
static __always_inline void open_stream(struct __sk_buff *skb, struct http2 *h)
{
	struct frames *d = &h->requests;
	if (d->stream <= h->last_stream || !(d->stream & 1)) /* its trailers, or not a client's */
		return;
	h->last_stream = d->stream;
	h->last_route = d->fields.route;
	if (d->fields.missed && (d->fields.route == ROUTE_UNKNOWN || !d->fields.method))
		lose(LOSS_FIELD_UNKNOWN);
	struct stream_slot *slot = find_slot(skb, h, d->stream, 0);
	if (!slot && h->lost & UNSEEN_ENDS) { /* what is there may have ended long ago */
		slot = &h->few[(d->stream >> 1) & (FEW_STREAMS - 1)];
		slot->stream = 0;
		lose(LOSS_UNANSWERED);
	} else if (!slot) {
		lose(LOSS_PIPELINED);
		return;
	}
	slot->start_ns = d->began_ns;
	slot->first_units = slot->last_units = 0;
	slot->route = d->fields.route;
	slot->method = d->fields.method ?: METHOD_OTHER;
	slot->is_grpc = d->fields.is_grpc ? REQUEST_SAYS : 0;
	slot->status = slot->grpc_status = slot->pauses = slot->has_data = slot->missed = 0;
	slot->request_bytes = d->message_bytes;
	slot->response_bytes = 0;
	__u32 before = __sync_val_compare_and_swap(&slot->stream, 0, d->stream); /* after everything else */
	asm volatile("" : : "r"(before));
}

/* Further bytes of an answer: its latency is up to here, unless it has paused. A server of gRPC may say at once that it
 * has taken the call: what comes before its first message is work, not a pause. */
static __always_inline void extend(struct stream_slot *slot, __u32 bytes, __u64 now)
{
	__u32 units = latency_units(now - slot->start_ns) ?: 1;
	bool works = slot->is_grpc && !slot->has_data;
	slot->response_bytes += bytes;
	if (slot->last_units && !works && units - slot->last_units > LONGEST_PAUSE_NS >> LATENCY_UNIT_SHIFT)
		slot->pauses = 1;
	if (!slot->pauses)
		slot->last_units = units;
	if (!slot->first_units)
		slot->first_units = units;
}

/* The stream has ended: a call without a status of its own. What an answer in another form says is HTTP's; a proxy's, say. */
static __always_inline void settle_status(struct stream_slot *was)
{
	if (!was->is_grpc || was->grpc_status)
		return;
	if (was->missed) {
		was->grpc_status = 1 + GRPC_STATUS_UNSEEN;
		lose(LOSS_FIELD_UNKNOWN);
	} else if (was->is_grpc & ANSWER_SAYS) {
		was->grpc_status = 1 + GRPC_STATUS_UNKNOWN;
	} else {
		was->is_grpc = 0;
	}
}

/* Count what is in a slot, under `outcome` where there was no answer, and give it back. True when it was answered. A
 * function of its own, so that the verifier walks it once. */
__noinline int count_stream(const struct connection *conn, struct stream_slot *slot, __u32 outcome, __u64 now)
{
	if (!conn || !slot)
		return false;
	struct stream_slot was = *slot; /* a copy: as soon as it is free the other direction may take it */
	if (!was.stream || __sync_val_compare_and_swap(&slot->stream, was.stream, 0) != was.stream)
		return false;
	if (outcome == OUTCOME_ANSWERED && was.status)
		settle_status(&was);
	bool answered = is_answered(&was);
	if (!answered && outcome == OUTCOME_ANSWERED) { /* its status went by in a gap */
		lose(LOSS_UNANSWERED);
		return false;
	}
	struct request_key key = key_of(conn, &was);
	if (answered)
		key.status = was.is_grpc ? was.grpc_status - 1 : was.status;
	else
		key.outcome = outcome;
	__u64 took_ns = answered ? (__u64)was.last_units << LATENCY_UNIT_SHIFT : now - was.start_ns;
	struct request_stats *stats = add_request(&key, took_ns, was.request_bytes);
	if (!stats)
		return false;
	__sync_fetch_and_add(&stats->response_bytes, was.response_bytes);
	if (answered)
		__sync_fetch_and_add(&stats->transfer_sum_ns, (__u64)(was.last_units - was.first_units) << LATENCY_UNIT_SHIFT);
	return answered;
}

/* An answer's header block is complete: its head, an interim one, or its trailers. */
static __always_inline void take_answer_fields(const struct frames *d, struct stream_slot *slot, __u64 now)
{
	const struct fields *f = &d->fields;
	if (f->status && f->status < 200)
		return;
	if (f->status)
		slot->status = f->status;
	if (f->is_grpc || f->grpc_status)
		slot->is_grpc |= ANSWER_SAYS;
	if (f->grpc_status)
		slot->grpc_status = f->grpc_status;
	slot->missed |= f->missed;
	if (f->missed && !f->status && !slot->is_grpc) /* trailers: it may have been a call all the same */
		lose(LOSS_FIELD_UNKNOWN);
	extend(slot, d->message_bytes, now);
}

#endif
