// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Cgroups of the v2 tree that were made since user space last looked, with their paths.
 *
 *   cgroup_mkdir --> born
 *
 * A container of five seconds is over before the tree is walked again; what was counted under its id needs a name.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel_types.h"
#include "births_layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64); /* the cgroup's id */
	__type(value, struct birth);
} born SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct birth);
} births_scratch SEC(".maps");

SEC("tp_btf/cgroup_mkdir")
int note_birth(__u64 *context)
{
	struct cgroup *cgroup = (struct cgroup *)context[0];
	__u32 first = 0;
	struct birth *birth = bpf_map_lookup_elem(&births_scratch, &first);
	if (!birth || cgroup->root->hierarchy_id) /* a version 1 controller's */
		return 0;
	__u64 id = cgroup->kn->id;
	/* a path that does not fit is cut, and then belongs to nobody: the next walk finds it whole */
	if (bpf_probe_read_kernel_str(birth->path, sizeof(birth->path), (const void *)context[1]) > 0)
		bpf_map_update_elem(&born, &id, birth, BPF_ANY);
	return 0;
}
