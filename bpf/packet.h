/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Reading from a packet, so that the verifiers of all kernels since 5.13 can follow: where its payload is, and bytes of it.
 */
#ifndef HEADROOM_PACKET_H
#define HEADROOM_PACKET_H

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_TCP 6
#define IPV6_HEADER_BYTES 40
#define TCP_HEADER_BYTES 20

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

struct segment {
	__u32 offset, length; /* of the payload */
	__u32 sequence, acknowledged;
	__u32 ip_bytes;
};

/* IP and TCP headers are in the linear part; a segment where they are not is left alone. */
static __always_inline bool find_payload(struct __sk_buff *skb, struct segment *segment)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 ip_bytes;
	if (data + IPV6_HEADER_BYTES > end) /* IPv4 and TCP together are no shorter */
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (data[9] != IPPROTO_TCP)
			return false;
		ip_bytes = (data[0] & 0xf) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (data[6] != IPPROTO_TCP)
			return false;
		ip_bytes = IPV6_HEADER_BYTES;
	} else {
		return false;
	}
	__u8 *tcp = data + ip_bytes;
	if (tcp + TCP_HEADER_BYTES > end)
		return false;
	segment->sequence = bpf_ntohl(*(__be32 *)(tcp + 4)) + (tcp[13] >> 1 & 1); /* a SYN takes one, and may bring data */
	segment->acknowledged = bpf_ntohl(*(__be32 *)(tcp + 8));
	segment->offset = ip_bytes + (tcp[12] >> 4) * 4;
	if (skb->len <= segment->offset) /* a bare acknowledgement */
		return false;
	segment->length = skb->len - segment->offset;
	segment->ip_bytes = ip_bytes;
	return true;
}

#endif
