"""Which children of a prefix are one of many: users, not functions."""

import time
from collections import Counter
from random import Random

import pytest

from collector.crowds import crowds, kinds, may_crowd, outstanding
from collector.routes import Merges


def paths(*texts):
    return Counter(tuple(text.encode().split(b"/")) for text in texts)


def crowd(found, shown, pressed):
    """The first of them, with the names that are kept."""
    for prefix, kept in crowds(found.items(), Merges(dict(shown)), pressed).items():
        return prefix, [each[-1] for each in kept]
    return None


def zipf(chance, names, requests):
    return Counter(chance.choices(names, [1 / (rank + 1) for rank in range(len(names))], k=requests))


def under(prefix, counts):
    return {(b"", prefix.encode(), name.encode()): count for name, count in counts.items()}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("methods", [11, 30, 60])
@pytest.mark.parametrize("requests", [100, 1000, 100_000])
def test_functions_are_left_apart_however_few_requests_there_were(seed, methods, requests):
    counts = zipf(Random(seed), [f"Method{number}" for number in range(methods)], requests)
    assert crowd(under("rpc", counts), {}, pressed=False) is None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("users", [1000, 1_000_000])
def test_users_are_one_after_a_few_hundred_requests(seed, users):
    counts = zipf(Random(seed), [f"user{number}" for number in range(users)], 300)
    assert crowd(under("users", counts), {}, pressed=False) == ((b"", b"users"), [])


def test_ten_children_are_always_left_apart():
    assert crowd(paths(*(f"/a/b{number}" for number in range(10))), {}, pressed=True) is None


def test_words_beside_users_keep_their_names():
    users = {f"user{number}": 1 for number in range(300)}
    prefix, kept = crowd(under("users", users | {"me": 80, "search": 20, "new": 10}), {}, pressed=False)
    assert (prefix, kept) == ((b"", b"users"), [b"me", b"search", b"new"])


def test_the_shortest_prefix_comes_first_and_what_is_one_already_is_left():
    found = paths(*(f"/o{number}/r{number}/issues" for number in range(200)))
    assert crowd(found, {}, pressed=False)[0] == (b"",)
    merged = Counter({(b"", b"*", path[2], path[3]): count for path, count in found.items()})
    assert crowd(merged, {(b"",): "*"}, pressed=False)[0] == (b"", b"*")


@pytest.mark.parametrize("seed", range(20))
def test_functions_beside_one_that_is_always_asked_for_are_left_apart(seed):
    chance = Random(seed)
    names = [f"Method{number}" for number in range(60)]
    for requests in (1000, 10_000, 100_000):
        counts = Counter(chance.choices(["hot", *names], [0.97, *[0.03 / 60] * 60], k=requests))
        assert crowd(under("rpc", counts), {}, pressed=False) is None


def test_all_levels_are_seen_at_once():
    found = paths(*(f"/o{number}/r{number}/issues" for number in range(200)))
    assert list(crowds(found.items(), Merges(), False)) == [(b"",), (b"", b"*")]


def test_random_deep_paths_take_no_time_to_speak_of():
    chance = Random(1)
    found = paths(*("/" + "/".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=50)) for _ in range(1000)))
    begin = time.process_time()
    assert len(crowds(found.items(), Merges(), pressed=True)) <= 12 * 26
    assert time.process_time() - begin < 5, "it once took a minute"


def test_under_pressure_nothing_is_waited_for():
    few = paths(*(f"/u/{number}x" for number in range(20)))
    assert crowd(few, {}, pressed=False) is None
    assert crowd(few, {}, pressed=True)[0] == (b"", b"u")


def test_how_many_there_are():
    assert kinds([5, 9]) == 2
    assert kinds([1] * 10) == 10 + 45
    assert kinds([1, 1, 2]) == 3 + 0.5


def test_popular_users_do_not_stand_out_from_others():
    counts = zipf(Random(1), [b"%d" % number for number in range(5000)], 20_000)
    assert outstanding(counts) == []


@pytest.mark.parametrize("seed", range(30))
def test_where_there_may_be_no_crowd_there_is_none(seed):
    chance = Random(seed)
    found = {
        (b"", b"users", b"%d" % user, *([b"page%d" % page] if page else [])): chance.choice([1, 1, 2, 9])
        for user in range(chance.randint(1, 40))
        for page in range(chance.randint(1, 3))
    }
    assert may_crowd(found) or not crowds(found.items(), Merges(), pressed=True)
    assert may_crowd((b"", b"%d" % number) for number in range(14))
    assert not may_crowd((b"", b"%d" % number) for number in range(13))
