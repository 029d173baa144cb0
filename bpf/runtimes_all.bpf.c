// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * What the processes of this machine run, those of other PID namespaces, too (Linux 6.7).
 *
 *   look_at_all --every process, every mapping, when user space asks--> processes
 *
 * An iterator that is attached (runtimes.bpf.c) sees the PID namespace of who reads it, which in a pod is its own.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "runtimes.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ALL_PROCESSES 0 /* BPF_TASK_ITER_ALL_PROCS */

struct bpf_iter_task { __u64 opaque[3]; } __attribute__((aligned(8)));
struct bpf_iter_task_vma { __u64 opaque[1]; } __attribute__((aligned(8)));

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern int bpf_iter_task_new(struct bpf_iter_task *, struct task_struct *, unsigned int) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *) __ksym;
extern int bpf_iter_task_vma_new(struct bpf_iter_task_vma *, struct task_struct *, __u64) __ksym;
extern struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *) __ksym;
extern void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *) __ksym;

SEC("syscall")
int look_at_all(void *context)
{
	struct bpf_iter_task tasks;
	struct task_struct *task;
	bpf_rcu_read_lock();
	bpf_iter_task_new(&tasks, NULL, ALL_PROCESSES);
	while ((task = bpf_iter_task_next(&tasks))) {
		struct bpf_iter_task_vma areas;
		struct vm_area_struct *area;
		__u32 signs = 0;
		if (!task->mm)
			continue;
		if (bpf_iter_task_vma_new(&areas, task, 0)) /* it does not wait for the lock of the mappings */
			signs = SIGN_UNSEEN;
		while ((area = bpf_iter_task_vma_next(&areas)))
			signs |= sign_of(area);
		bpf_iter_task_vma_destroy(&areas);
		note(task, signs);
	}
	bpf_iter_task_destroy(&tasks);
	bpf_rcu_read_unlock();
	return 0;
}
