"""The network as a table."""

import pytest

from profiles.schema import Identity, PeerRow
from reports.peers import PeerSum, cells, in_bytes, peer_sums


def row(workload, instance, role, peer, port, *numbers):
    return PeerRow(
        Identity("c", "shop", "Deployment", workload, "app", instance), role, "address", peer, port, *numbers
    )


def test_windows_and_instances_add_up_and_the_largest_is_first():
    rows = [
        row("web", "a", "client", "10.0.0.2", 80, 1, 10, 20),
        row("web", "b", "client", "10.0.0.2", 80, 2, 30, 40),
        row("web", "a", "client", "10.0.0.9", 80, 1, 1000, 0),
        row("web", "a", "server", "internet", 443, 5, 1, 1),
        row("db", "a", "server", "10.0.0.9", 5432, 1, 1, 1),
    ]
    sums = peer_sums(rows, 10.0)
    assert [(each.workload, each.role, each.peer) for each in sums] == [
        ("shop/db/app", "server", "10.0.0.9"),
        ("shop/web/app", "server", "internet"),
        ("shop/web/app", "client", "10.0.0.9"),
        ("shop/web/app", "client", "10.0.0.2"),
    ]
    assert sums[-1] == PeerSum("shop/web/app", "client", "address", "10.0.0.2", 80, 3, 40, 60, 4.0, 6.0)
    assert cells(sums[-1]) == ["shop/web/app", "client", "10.0.0.2", "80", "3", "40 B", "60 B", "4 B", "6 B"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1536, "1.5 KiB"),
        (5 * 2**20, "5 MiB"),
        (2**50, "1 PiB"),
        (2**63, "8.19e+03 PiB"),
    ],
)
def test_bytes_as_people_read_them(number, text):
    assert in_bytes(number) == text
