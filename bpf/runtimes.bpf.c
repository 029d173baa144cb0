// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * What the processes of this PID namespace run, for kernels before 6.7: see runtimes_all.bpf.c.
 *
 *   look_at_mapping --for every mapping of every process, when user space asks--> processes
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "runtimes.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("iter/task_vma")
int look_at_mapping(struct bpf_iter__task_vma *context)
{
	struct task_struct *task = context->task;
	struct vm_area_struct *area = context->vma;
	if (task && area && task->mm)
		note(task, sign_of(area));
	return 0;
}
