// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * What our overhead is held against: a tracer of the classic shape.
 *
 *   enter read/write: remember the buffer --> exit: look for HTTP in it --> request, answer: one event to user space
 *
 * Written for this comparison and as lean as that shape allows: HTTP/1 heads in one piece, no body, no TLS, no limits,
 * and an event of 400 bytes for each request.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TEXT_BYTES 256

struct enter { __u64 common; long number; unsigned long arguments[6]; };
struct leave { __u64 common; long number; long result; };
struct vector { void *base; unsigned long length; };

struct socket { __u32 process, descriptor; };
struct call { const void *buffer; __u32 descriptor; };
struct request { __u64 start_ns; char text[TEXT_BYTES]; };
struct event { __u64 process, start_ns, end_ns; struct socket socket; char request[TEXT_BYTES]; char answer[64]; };

#define HASH(name, keys, values)                     \
	struct {                                     \
		__uint(type, BPF_MAP_TYPE_HASH);     \
		__uint(max_entries, 16384);          \
		__type(key, keys);                   \
		__type(value, values);               \
	} name SEC(".maps")

HASH(calls, __u64, struct call);
HASH(requests, struct socket, struct request);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct request);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} events SEC(".maps");

static __always_inline int enter(struct enter *ctx, int is_vector)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call call = { .buffer = (void *)ctx->arguments[1], .descriptor = ctx->arguments[0] };
	struct vector first = {};
	if (is_vector) {
		bpf_probe_read_user(&first, sizeof(first), call.buffer);
		call.buffer = first.base;
	}
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
	return 0;
}

static __always_inline void answered(const struct socket *socket, const struct request *request, const char *text)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	event->process = socket->process;
	event->socket = *socket;
	event->start_ns = request->start_ns;
	event->end_ns = bpf_ktime_get_ns();
	__builtin_memcpy(event->request, request->text, TEXT_BYTES);
	__builtin_memcpy(event->answer, text, sizeof(event->answer));
	bpf_ringbuf_submit(event, 0);
}

static __always_inline int leave(struct leave *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 first = 0;
	struct call *call = bpf_map_lookup_elem(&calls, &thread);
	struct request *seen = bpf_map_lookup_elem(&scratch, &first);
	if (!call || !seen)
		return 0;
	struct socket socket = { .process = thread >> 32, .descriptor = call->descriptor };
	if (ctx->result >= 16 && !bpf_probe_read_user(seen->text, ctx->result < TEXT_BYTES ? 64 : TEXT_BYTES, call->buffer)) {
		__u32 word = *(__u32 *)(void *)seen->text;
		if (word == 0x50545448) { /* "HTTP" */
			struct request *request = bpf_map_lookup_elem(&requests, &socket);
			if (request) {
				answered(&socket, request, seen->text);
				bpf_map_delete_elem(&requests, &socket);
			}
		} else if (word == 0x20544547 || word == 0x54534f50) { /* "GET ", "POST" */
			seen->start_ns = bpf_ktime_get_ns();
			bpf_map_update_elem(&requests, &socket, seen, BPF_ANY);
		}
	}
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

#define TRACED(name, is_vector)                                                                                \
	SEC("tp/syscalls/sys_enter_" #name) int enter_##name(struct enter *ctx) { return enter(ctx, is_vector); } \
	SEC("tp/syscalls/sys_exit_" #name) int leave_##name(struct leave *ctx) { return leave(ctx); }

TRACED(read, 0)
TRACED(recvfrom, 0)
TRACED(readv, 1)
TRACED(write, 0)
TRACED(sendto, 0)
TRACED(writev, 1)
