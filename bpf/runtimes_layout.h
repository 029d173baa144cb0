/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What runtimes.bpf.c and runtimes_all.bpf.c share with user space; bpf/layout.py mirrors it.
 */
#ifndef HEADROOM_RUNTIMES_LAYOUT_H
#define HEADROOM_RUNTIMES_LAYOUT_H

#define PROGRAM_BYTES 32

struct process_key {
	__u64 cgroup_id;
	__u32 process;
	__u32 reserved;
};

/* Bits of process_seen.signs: what a process has mapped. */
enum sign {
	SIGN_GO = 1, /* the first arena of Go's heap */
	SIGN_JVM = 2,
	SIGN_DOTNET = 4,
	SIGN_NODE = 8,
	SIGN_RUBY = 16,
	SIGN_PHP = 32,
	SIGN_PYTHON = 64,
	SIGN_CPP = 128,
	SIGN_UNSEEN = 256, /* its mappings were being changed just then */
};

struct process_seen {
	char program[PROGRAM_BYTES]; /* name of the file that was executed, without its folder; cut to fit */
	__u32 signs;
	__u32 reserved;
};

#endif
