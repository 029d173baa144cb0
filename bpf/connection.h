/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What is kept with a connection's socket: the request in flight, and more where it is read byte by byte.
 */
#ifndef HEADROOM_CONNECTION_H
#define HEADROOM_CONNECTION_H

/* What `map` keeps with this socket, made if there is none. Where both ends of a connection speak at once, two processors
 * make it at the same moment, and one of them gets nothing: it asks again. */
#define made_with(map, sk)                                                 \
	(bpf_sk_storage_get(map, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) ?: \
	 bpf_sk_storage_get(map, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE))

enum direction { INGRESS = 0, EGRESS = 1 };
enum phase { BETWEEN, AWAITING_ANSWER, TUNNEL, MULTIPLEXED };

/* 56 bytes: one cache line with the kernel's own 8, which goes from the processor that takes
 * the request in to the one that sends the answer. */
struct connection {
	struct request_key key; /* of the request in flight, or of the last one answered */
	__u64 start_ns;
	__u32 took_units;       /* from then to the last byte of the answer so far, in units of the histogram */
	__u32 next_sequence[2]; /* per direction: the first byte not seen yet; 0 when nothing was */
	__u32 phase;            /* enum phase; both directions may want to end a request */
	__u16 request_bytes;    /* of a request taken at a glance */
	union {
		struct {
			__u8 answered; /* key names an answered request: later bytes are its body */
			__u8 reading;  /* see conversation.h */
			__u8 followed; /* the request in flight came after an answer, which may still go on */
			__u8 turn;     /* see turn.h */
		};
		__u32 with_turn;
	};
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

#define MOST_WAITING 16 /* a power of two */

struct waiting {
	__u64 start_ns;
	__u64 route;
	__u32 request_bytes;
	__u32 method;
};

struct conversation {
	struct stream requests, answers;
	struct waiting waiting[MOST_WAITING];
	__u32 asked;    /* requests put into the ring; but for the answers' direction */
	__u32 answered; /* ... and taken out */
	__u16 status;   /* of the answer that is being read */
	__u8 method;    /* of its request */
	__u8 lost;      /* an answer may have gone by unseen */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conversation);
} conversations SEC(".maps");

#endif
