/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What runtimes.bpf.c writes for user space; bpf/layout.py mirrors it.
 */
#ifndef HEADROOM_RUNTIMES_LAYOUT_H
#define HEADROOM_RUNTIMES_LAYOUT_H

#define FILE_NAME_BYTES 32

enum mapped { MAPPED_PROGRAM = 1, MAPPED_LIBRARY = 2, MAPPED_GO_HEAP = 3 };

struct mapped_file {
	__u64 cgroup_id;
	__u32 process;
	__u32 what; /* enum mapped */
	char name[FILE_NAME_BYTES]; /* of the file, without its folder; cut to fit, ends with a zero */
};

#endif
