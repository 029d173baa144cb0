/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What is kept with the socket of a connection that speaks HTTP/2: where each direction is, and the requests in flight.
 */
#ifndef HEADROOM_HTTP2_CONNECTION_H
#define HEADROOM_HTTP2_CONNECTION_H

#define LINE_BYTES 128     /* of a string that are kept; a power of two */
#define CHUNK_BYTES 64     /* of a header block that are read in one go; a power of two */
#define TABLE_ENTRIES 128  /* a power of two: as many as 4,096 bytes can hold, at 32 and more each */

/* What a field is to us. */
enum field_name { NAME_OTHER, NAME_METHOD, NAME_PATH, NAME_STATUS, NAME_CONTENT_TYPE, NAME_GRPC_STATUS };

enum field_state {
	FIELD, NAME_START, VALUE_START,
	INDEX, TABLE_SIZE, NAME_INDEX, NAME_LENGTH, VALUE_LENGTH, /* numbers */
	NAME, VALUE,                                              /* strings */
};

/* A field's value, by its name: enum method, route hash, status, whether it is gRPC, gRPC status. */
struct fields {
	__u64 route;
	__u32 number;
	__u32 string_left;
	__u32 line_bytes; /* of the string that is kept, more than are kept */
	__u32 inserted;
	__u32 known; /* of the newest entries */
	__u32 at;    /* of the chunk */
	__u16 status;
	__u8 state;
	__u8 shift;
	__u8 is_huffman;
	__u8 name;
	__u8 inserts;
	__u8 method;
	__u8 is_grpc;
	__u8 grpc_status; /* one more than that; 0 for none */
	__u8 missed;      /* an index went to an entry that was not seen */
	__u8 reserved[5];
	char line[LINE_BYTES + 8];
	char chunk[CHUNK_BYTES];
	__u8 names[TABLE_ENTRIES];
	__u64 values[TABLE_ENTRIES];
};

enum frame_state {
	OUT_OF_STEP, /* the next segment that begins with a frame */
	FRAME_HEADER,
	FRAME_HEAD,  /* padding's length, priority, promised stream: before a header block */
	BLOCK,
	SKIPPED,     /* the payload of any other frame, and padding */
};

/* One direction. */
struct frames {
	__u64 began_ns;      /* the first byte of the header block */
	__u32 left;          /* of the frame's payload */
	__u32 stream;        /* of the frame */
	__u32 message_bytes; /* payload of the header block's frames so far */
	__u8 state;
	__u8 type;
	__u8 flags;
	__u8 padding;
	__u8 header_bytes;
	__u8 head_left;
	__u8 ends_stream; /* the header block's first frame says so */
	__u8 is_promise;  /* the header block is no message, but belongs to the table */
	__u8 header[24]; /* room for nine bytes at any of the first nine */
	struct fields fields;
};

enum says_grpc { REQUEST_SAYS = 1, ANSWER_SAYS = 2 };

/* A request in flight. */
struct stream_slot {
	__u64 start_ns;
	__u64 route;
	__u32 first_units; /* from then to the answer, in units of the histogram */
	__u32 last_units;  /* ... and to its last byte so far; it stays where the answer pauses. 0 before it */
	__u32 stream;   /* 0: free. The requests' direction takes a slot, either may give it back */
	__u32 request_bytes;
	__u32 response_bytes;
	__u16 status;
	__u8 method;
	__u8 is_grpc;     /* enum says_grpc */
	__u8 grpc_status; /* as in struct fields */
	__u8 pauses;
	__u8 has_data;
	__u8 missed;      /* a field of the answer was in a part of the table that was not seen */
};

#define FEW_STREAMS 16   /* powers of two */
#define MORE_STREAMS 128 /* two times that and the rest are within what kernels before 6.8 let a socket keep: 20 KB */
#define MOST_MORE 4      /* times that many */

/* What may have gone by. */
enum unseen { UNSEEN_REQUESTS = 1, UNSEEN_ENDS = 2 };

struct http2 {
	struct frames requests, answers;
	__u32 last_stream; /* the highest that a request had */
	__u8 has_more;     /* how many times there are further slots */
	__u8 lost;         /* enum unseen */
	__u8 proved;       /* it is HTTP/2: a preface, or an answer to a request */
	__u8 holds;        /* segments that came too early */
	__u64 last_route;  /* of the request before: most have the same */
	struct stream_slot few[FEW_STREAMS];
};

/* Segments that came before one that is missing. Nearly all that are out of order are few, and requests are small. */
#define HELD_BYTES 4096 /* at which another one may begin, and of which it may have as many; a power of two */

struct held {
	__u32 sequence;
	__u32 length; /* 0: none */
	char bytes[2 * HELD_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct held);
} http2_held SEC(".maps");

/* Only for connections that have had more than a few at once; the second only after more than the first could take. */
struct more_streams {
	struct stream_slot slots[MORE_STREAMS];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http2);
} http2_connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct more_streams);
} http2_more_1 SEC(".maps"), http2_more_2 SEC(".maps"), http2_more_3 SEC(".maps"), http2_more_4 SEC(".maps");

/* The slots number 1 to MOST_MORE of a socket, if there are any. */
#define more_streams_of(sk, number, flags)                                                   \
	((struct more_streams *)((number) == 1 ? bpf_sk_storage_get(&http2_more_1, sk, NULL, flags) : \
				 (number) == 2 ? bpf_sk_storage_get(&http2_more_2, sk, NULL, flags) : \
				 (number) == 3 ? bpf_sk_storage_get(&http2_more_3, sk, NULL, flags) : \
						 bpf_sk_storage_get(&http2_more_4, sk, NULL, flags)))

/* The key under which what is in this slot is counted. */
static __always_inline struct request_key key_of(const struct connection *conn, const struct stream_slot *slot)
{
	struct request_key key = { .cgroup_id = conn->key.cgroup_id, .role = conn->key.role, .route = slot->route };
	key.method = slot->method;
	key.protocol = slot->is_grpc ? PROTOCOL_GRPC : PROTOCOL_HTTP2;
	return key;
}

/* An answer is known by its status; that of gRPC comes at its end. */
static __always_inline bool is_answered(const struct stream_slot *slot)
{
	return slot->is_grpc ? slot->grpc_status : slot->status;
}

#endif
