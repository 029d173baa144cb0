/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What traffic.bpf.c shares with user space. bpf/layout.py mirrors it; the loader
 * compares the sizes when an object is opened, so that the two cannot drift apart.
 */
#ifndef HEADROOM_TRAFFIC_LAYOUT_H
#define HEADROOM_TRAFFIC_LAYOUT_H

/* Latency histogram, log-linear: unit 64 ns, 16 linear buckets, then 16 buckets per
 * octave up to 2^30 units (68.7 s). Half a bucket is at most 1/32 of its lower edge: the
 * relative error of a quantile is at most 3.2 % (profiles/histogram.py tests it). */
#define LATENCY_UNIT_SHIFT 6 /* of nanoseconds */
#define LATENCY_BUCKETS 432

#define ROUTE_TEXT_BYTES 112

enum role { ROLE_SERVER = 0, ROLE_CLIENT = 1 };

/* 0 is "not one of these" and never counted. */
enum method {
	METHOD_NONE, METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_PUT, METHOD_DELETE,
	METHOD_CONNECT, METHOD_OPTIONS, METHOD_TRACE, METHOD_PATCH,
	METHOD_OTHER, /* of HTTP/2, where no method has to be known to see a request */
};

/* How a request ended. */
enum outcome {
	OUTCOME_ANSWERED,
	OUTCOME_ABORTED,   /* the client's end closed or reset the connection before the answer */
	OUTCOME_RESET,     /* the server's end did */
	OUTCOME_TIMED_OUT, /* neither: the other end was not to be reached any more */
};

enum protocol { PROTOCOL_HTTP1, PROTOCOL_HTTP2, PROTOCOL_GRPC };

/* A route that the full table of texts could not take. */
#define ROUTE_OVERFLOW 1ULL
/* A route that was named only by an entry of a table that began before the agent, or went by in a gap. */
#define ROUTE_UNKNOWN 2ULL
/* Status of a gRPC call that ended with one that went by unseen. */
#define GRPC_STATUS_UNSEEN 200
#define MOST_GRPC_STATUS 16
#define GRPC_STATUS_UNKNOWN 2 /* gRPC's own word for a call that ended without one */

/* Routes that a cgroup may bring in one role, before collector/services.py says otherwise. */
#define MOST_ROUTES_PER_OWNER 500

/* A prefix of paths, by its hash. The owner is a cgroup, and its role in the highest bit. */
struct prefix_key {
	__u64 owner;
	__u64 prefix;
};

struct request_key {
	__u64 cgroup_id;
	__u64 route;
	__u16 status; /* 0 without an answer; of gRPC its own */
	__u8 method;
	__u8 role;
	__u8 outcome;
	__u8 protocol;
	__u8 reserved[2];
};

/* An answer that pauses longer has ended, as far as its latency goes: what comes later are events, not its body. */
#define LONGEST_PAUSE_NS 1000000000ULL

struct request_stats {
	__u64 latency_sum_ns;  /* to the last byte of the answer */
	__u64 transfer_sum_ns; /* of it, since the first byte of the answer */
	__u64 request_bytes;
	__u64 response_bytes;
	__u32 latency[LATENCY_BUCKETS]; /* their sum is the number of requests */
};

struct route_text {
	__u32 length;
	__u32 whole; /* its end was seen */
	char path[ROUTE_TEXT_BYTES]; /* the first path seen, without its query string */
};

/* One counter for each way in which a request or a detail of it can be lost. */
enum loss {
	LOSS_NO_STATS_ENTRY,           /* the statistics map is full: the request is not counted */
	LOSS_NO_SOCKET_STATE,          /* no memory for a connection's state */
	LOSS_RESPONSE_WITHOUT_REQUEST, /* mostly a connection older than the agent */
	LOSS_PIPELINED,                /* more requests without an answer than are kept in mind */
	LOSS_SEQUENCE_GAP,             /* segments seen out of order */
	LOSS_ROUTE_OVERFLOW,           /* counted, but under __overflow__ */
	LOSS_ROUTE_CUT,                /* counted, but the path was longer than we read */
	LOSS_LONG_SEGMENT,             /* more heads in one segment than are read */
	LOSS_UNANSWERED,               /* a request whose answer was not seen, and another came */
	LOSS_OUT_OF_STEP,              /* HTTP/2: frames that could not be told apart, up to the next that could */
	LOSS_FIELD_UNKNOWN,            /* counted, but a field was in a part of the table that was not seen */
	LOSS_TURN,                     /* a segment that came while another of its connection was read, for milliseconds */
	LOSS_REASONS,
};

#endif
