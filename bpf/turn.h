/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * One processor at a time reads what comes in on a connection.
 *
 * The hook runs before TCP takes the socket's lock. Where a sender goes on from another processor, as it does when an
 * acknowledgement lets it, two segments of one connection are here at once: the second would be read from the middle of the
 * first. It waits, as it would a moment later for that lock. What goes out is sent under the lock already.
 */
#ifndef HEADROOM_TURN_H
#define HEADROOM_TURN_H

#define TURN 0x01000000U /* in with_turn, of which `turn` is the last byte */
#define LONGEST_WAIT_NS 2000000 /* a segment takes a microsecond; one of hundreds of frames some hundred */
#define LOOKS_IN_A_ROW 64
#define MOST_ROWS 1000

static __always_inline bool is_mine(struct connection *conn)
{
	return !*(volatile __u8 *)&conn->turn && !(__sync_fetch_and_or(&conn->with_turn, TURN) & TURN);
}

/* In functions of their own, so that the verifier walks each loop once. */
__noinline int look_for_turn(struct connection *conn)
{
	if (!conn)
		return 0;
	for (__u32 look = 0; look < LOOKS_IN_A_ROW; look++) {
		if (is_mine(conn))
			return 1;
		bpf_ktime_get_ns(); /* some 20 ns */
	}
	return 0;
}

__noinline int wait_for_turn(struct connection *conn)
{
	if (!conn)
		return 0;
	__u64 began_ns = bpf_ktime_get_ns();
	for (__u32 row = 0; row < MOST_ROWS && bpf_ktime_get_ns() - began_ns < LONGEST_WAIT_NS; row++)
		if (look_for_turn(conn))
			return 1;
	return 0;
}

static __always_inline bool take_turn(struct connection *conn)
{
	return !(__sync_fetch_and_or(&conn->with_turn, TURN) & TURN) || wait_for_turn(conn);
}

/* After all that was read has been written. */
static __always_inline void end_turn(struct connection *conn)
{
	__u32 before = __sync_fetch_and_and(&conn->with_turn, ~TURN);
	asm volatile("" : : "r"(before));
}

#endif
