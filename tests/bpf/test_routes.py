"""bpf/routes.h in user space: what user space says of prefixes, and how many routes there is room for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf.layout import MOST_ROUTES_PER_OWNER, ROUTE_OVERFLOW
from collector.routes import Merges, RequestPath, route_hash
from tests.bpf.segments import ANSWERS, REQUESTS, carry, losses
from tests.bpf.test_http1 import SETTINGS, SHORT_PATHS, route_of
from tests.bpf.test_http1_stream import counts

OWNER = 7  # the one cgroup that there is, as a server
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SEGMENTS = st.lists(st.sampled_from([b"a", b"b", b"users", b"42", b"me", b"*", b""]), min_size=1, max_size=5)


def ask(native, path):
    carry(native, REQUESTS, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    carry(native, ANSWERS, OK)


def routes(native):
    return Counter({path: total for (_, path, _), total in counts(native)[0].items()})


@SETTINGS
@given(path=SHORT_PATHS)
def test_both_sides_make_the_same_hash(native, path):
    assert route_of(native, path) == route_hash(Merges().fold(RequestPath(path)))


@SETTINGS
@given(merged=st.lists(SEGMENTS, max_size=3), kept=st.lists(SEGMENTS, max_size=3), path=SEGMENTS)
def test_both_sides_merge_the_same_segments(native, merged, kept, path):
    """What is marked here is found there: any prefixes, any that keep their names."""
    fold = Merges().fold
    merges = Merges(
        {fold(RequestPath(b"/" + b"/".join(each))): "*" for each in merged},
        {fold(RequestPath(b"/" + b"/".join(each))) for each in kept if each[-1]},
    )
    native.hang_up()
    for mark in merges.marks():
        native.mark(OWNER, mark)
    text = RequestPath(b"/" + b"/".join(path))
    ask(native, text.text)
    assert native.counted_at(0).contents.key.route == route_hash(merges.fold(text))


def test_another_owner_s_marks_change_nothing(native):
    native.hang_up()
    native.mark(OWNER + 1, route_hash((b"", b"users", b"")))
    ask(native, b"/users/anna")
    assert native.counted_at(0).contents.key.route == route_hash((b"", b"users", b"anna"))


def test_a_route_that_is_there_is_counted_whatever_came_later(native):
    native.hang_up()
    ask(native, b"/users/anna")
    native.mark(OWNER, route_hash((b"", b"users", b"")))
    for name in (b"anna", b"bob", b"carl"):
        ask(native, b"/users/" + name)
    assert routes(native) == {"/users/anna": 2, "/users/bob": 2}  # bob is the first of the many


@pytest.mark.parametrize("further", [0, 1, 5])
def test_an_owner_that_brought_too_many_has_totals_alone(native, further):
    native.hang_up()
    native.allow(further)
    for number in range(8):
        ask(native, b"/page%d" % number)
    found = Counter()
    for index in range(further + 1):
        entry = native.counted_at(index).contents
        found[entry.key.route == ROUTE_OVERFLOW] += sum(entry.stats.latency)
    assert found == Counter({True: 8 - further, False: further})
    assert losses(native) == {"ROUTE_OVERFLOW": 8 - further}
    assert MOST_ROUTES_PER_OWNER > 8


def test_when_the_table_is_nearly_full_new_kinds_are_totals(native):
    native.hang_up()
    ask(native, b"/known")
    native.make_kinds(8192 - 1024)
    for path in (b"/known", b"/new", b"/newer"):
        ask(native, path)
    by_route = {each.key.route: sum(each.stats.latency) for each in (native.counted_at(at).contents for at in range(2))}
    assert by_route == {route_hash((b"", b"known")): 2, ROUTE_OVERFLOW: 2}


def test_the_rest_of_an_answer_is_added_to_its_totals(native):
    native.hang_up()
    native.make_kinds(8192 - 1024)
    carry(native, REQUESTS, b"GET /new HTTP/1.1\r\nHost: x\r\n\r\n")
    carry(native, ANSWERS, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + bytes(100))
    carry(native, ANSWERS, bytes(400))
    stats = native.counted_at(0).contents.stats
    assert stats.response_bytes == 40 + 500
