"""What tests of the traffic programs share: cutting bytes into segments, giving them to the kernel's code, losses."""

from bpf.layout import TrafficLoss

REQUESTS, ANSWERS = 0, 1  # INGRESS and EGRESS at the server's end
ESTABLISHED, FIN_WAIT2, CLOSED, CLOSE_WAIT, LAST_ACK = 1, 5, 7, 8, 9


def pieces(chance, data):
    """`data` in segments: all, halves, or crumbs."""
    size = chance.choice([len(data), 1400, 100, 20, 3, 1])
    while data:
        length = chance.randint(1, max(1, size))
        yield data[:length]
        data = data[length:]


def carry(native, direction, data, *, early=False, gap=0):
    """One segment; `gap` bytes before it never come."""
    native.segment(data, len(data), direction, early, gap)


def losses(native):
    return {reason.name: native.lost_by(reason) for reason in TrafficLoss if native.lost_by(reason)}
