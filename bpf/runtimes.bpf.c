// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * What the processes of this machine run: their program, and those of its libraries that tell a runtime.
 *
 *   look_at_mapping --for every mapping of every process, when user space asks--> struct mapped_file ...
 *
 * Nothing of a process is touched or stopped, and its memory is not read: only which files it has mapped, and where Go
 * has put its heap.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "kernel_types.h"
#include "runtimes_layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Go's allocator asks for its first arena there (runtime/malloc.go), and gets it but for rare clashes. */
#if defined(__TARGET_ARCH_arm64)
#define GO_HEAP 0x4000000000UL
#else
#define GO_HEAP 0xc000000000UL
#endif

#define FOUR(a, b, c, d) ((a) | (b) << 8 | (c) << 16 | (d) << 24)

/* libjvm.so, libpython3.11.so, ...: some processes have hundreds that tell nothing. */
static __always_inline bool tells_a_runtime(const char *name)
{
	if (name[0] != 'l' || name[1] != 'i' || name[2] != 'b')
		return false;
	switch (FOUR(name[3], name[4], name[5], name[6])) {
	case FOUR('j', 'v', 'm', '.'):
	case FOUR('p', 'y', 't', 'h'):
	case FOUR('r', 'u', 'b', 'y'):
	case FOUR('n', 'o', 'd', 'e'):
	case FOUR('c', 'o', 'r', 'e'): /* libcoreclr.so */
	case FOUR('p', 'h', 'p', '.'):
	case FOUR('s', 't', 'd', 'c'): /* libstdc++.so */
		return true;
	}
	return false;
}

SEC("iter/task_vma")
int look_at_mapping(struct bpf_iter__task_vma *context)
{
	struct task_struct *task = context->task;
	struct vm_area_struct *area = context->vma;
	if (!task || !area || task->tgid != task->pid || !task->mm)
		return 0;
	struct mapped_file found = {};
	struct mm_struct *memory = task->mm;
	struct file *file = area->vm_file;
	/* overlayfs maps another file than the one that was executed, so they cannot be compared */
	if (area->vm_start <= memory->start_code && memory->start_code < area->vm_end) {
		found.what = MAPPED_PROGRAM;
		file = memory->exe_file;
	} else if (!file && area->vm_start == GO_HEAP) {
		found.what = MAPPED_GO_HEAP;
	} else if (file && !area->vm_pgoff) {
		found.what = MAPPED_LIBRARY;
	} else {
		return 0;
	}
	if (file)
		bpf_probe_read_kernel_str(found.name, sizeof(found.name), file->f_path.dentry->d_name.name);
	if (found.what == MAPPED_LIBRARY && !tells_a_runtime(found.name))
		return 0;
	found.cgroup_id = task->cgroups->dfl_cgrp->kn->id;
	found.process = task->tgid;
	bpf_seq_write(context->meta->seq, &found, sizeof(found));
	return 0;
}
