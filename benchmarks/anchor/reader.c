// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* The anchor's user space: attaches tracer.bpf.o, takes every event, and says how many there were when it is ended. */
#include <bpf/libbpf.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t ended;
static unsigned long long taken;

static void end(int number) { ended = 1; }
static int take(void *context, void *data, size_t size) { taken++; return 0; }

int main(int argc, char **argv)
{
	struct bpf_object *object = argc == 2 ? bpf_object__open_file(argv[1], NULL) : NULL;
	struct bpf_program *program;
	signal(SIGTERM, end);
	if (!object || bpf_object__load(object))
		return 1;
	bpf_object__for_each_program(program, object)
		if (!bpf_program__attach(program))
			return 1;
	struct ring_buffer *ring = ring_buffer__new(bpf_map__fd(bpf_object__find_map_by_name(object, "events")), take, NULL, NULL);
	if (!ring)
		return 1;
	puts("tracing");
	fflush(stdout);
	while (!ended)
		ring_buffer__poll(ring, 100);
	ring_buffer__consume(ring);
	printf("%llu\n", taken);
	return 0;
}
