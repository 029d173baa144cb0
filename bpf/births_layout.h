/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What births.bpf.c shares with user space; bpf/layout.py mirrors it.
 */
#ifndef HEADROOM_BIRTHS_LAYOUT_H
#define HEADROOM_BIRTHS_LAYOUT_H

#define BIRTH_PATH_BYTES 384

struct birth {
	char path[BIRTH_PATH_BYTES]; /* below the root of the tree; ends with a zero */
};

#endif
