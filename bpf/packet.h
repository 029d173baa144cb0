/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Reading from a packet, so that the verifiers of all kernels since 5.13 can follow.
 */
#ifndef HEADROOM_PACKET_H
#define HEADROOM_PACKET_H

/* `length` bytes, of which there are `most` at most; false when that is not so, or there are none. The two bounds one by
 * one, with a sign and on 64 bits: older verifiers learn nothing from a folded pair, nor from "is not zero". */
static __always_inline bool load_bytes(const struct __sk_buff *skb, __u32 offset, void *to, __u32 length, __u32 most)
{
	__s64 bytes = length;
	asm volatile("" : "+r"(bytes));
	if (bytes < 1)
		return false;
	asm volatile("" : "+r"(bytes));
	if (bytes > most)
		return false;
	return !bpf_skb_load_bytes(skb, offset, to, bytes);
}

#endif
