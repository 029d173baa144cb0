/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What a process runs: its program, and what it has mapped that tells a runtime.
 *
 * Nothing of a process is touched or stopped, and its memory is not read: only the names of the files that it has
 * mapped, and where Go has put its heap.
 */
#ifndef HEADROOM_RUNTIMES_H
#define HEADROOM_RUNTIMES_H

#include "kernel_types.h"
#include "runtimes_layout.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, struct process_seen);
} processes SEC(".maps");

/* Go's allocator asks for its first arena there (runtime/malloc.go; at random since 1.26), and gets it but for rare
 * clashes. */
#if defined(__TARGET_ARCH_arm64)
#define GO_HEAP 0x4000000000UL
#else
#define GO_HEAP 0xc000000000UL
#endif

#define FOUR(a, b, c, d) ((a) | (b) << 8 | (c) << 16 | (d) << 24)

static __always_inline __u32 sign_of_library(const char *name)
{
	if (name[0] != 'l' || name[1] != 'i' || name[2] != 'b')
		return 0;
	switch (FOUR(name[3], name[4], name[5], name[6])) {
	case FOUR('j', 'v', 'm', '.'):
		return SIGN_JVM;
	case FOUR('c', 'o', 'r', 'e'): /* libcoreclr.so */
		return name[7] == 'c' && name[8] == 'l' ? SIGN_DOTNET : 0;
	case FOUR('n', 'o', 'd', 'e'):
		return SIGN_NODE;
	case FOUR('r', 'u', 'b', 'y'):
		return SIGN_RUBY;
	case FOUR('p', 'y', 't', 'h'):
		return SIGN_PYTHON;
	case FOUR('s', 't', 'd', 'c'): /* libstdc++.so */
		return name[7] == '+' ? SIGN_CPP : 0;
	}
	if (name[3] == 'p' && name[4] == 'h' && name[5] == 'p') /* libphp.so, libphp8.2.so */
		return SIGN_PHP;
	return 0;
}

static __always_inline __u32 sign_of(const struct vm_area_struct *area)
{
	char name[16] = {};
	struct file *file = area->vm_file;
	if (!file)
		return area->vm_start == GO_HEAP ? SIGN_GO : 0;
	if (area->vm_pgoff)
		return 0;
	bpf_probe_read_kernel_str(name, sizeof(name), file->f_path.dentry->d_name.name);
	return sign_of_library(name);
}

static __always_inline void note(const struct task_struct *task, __u32 signs)
{
	struct process_key key = { .cgroup_id = task->cgroups->dfl_cgrp->kn->id, .process = task->tgid };
	struct process_seen *known = bpf_map_lookup_elem(&processes, &key);
	if (known) {
		known->signs |= signs;
		return;
	}
	struct process_seen seen = { .signs = signs };
	struct file *file = task->mm->exe_file; /* overlayfs maps another file than the one that was executed */
	if (file)
		bpf_probe_read_kernel_str(seen.program, sizeof(seen.program), file->f_path.dentry->d_name.name);
	bpf_map_update_elem(&processes, &key, &seen, BPF_NOEXIST);
}

#endif
