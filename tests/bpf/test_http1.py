"""bpf/http1.h, compiled for user space, against an independent reading of its rules."""

import ctypes
import uuid

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bpf.layout import ROUTE_TEXT_BYTES, BankConfig, CgroupCpu, Method, RequestStats, RouteText
from collector.routes import Merges, RequestPath

HEAD_BYTES = 128
PLAIN_BYTES = 1024
METHODS = [each for each in Method if each is not Method.OTHER]  # that is HTTP/2's

SETTINGS = settings(derandomize=True, max_examples=400, deadline=None)


class Head(ctypes.Structure):
    """``struct head``."""

    _fields_ = [
        ("bytes", ctypes.c_ubyte * (PLAIN_BYTES + 8)),
        ("zero", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("path_length", ctypes.c_uint32),
        ("path_whole", ctypes.c_uint32),
        ("text", RouteText),
    ]


# --- the reference ---------------------------------------------------------------------


def fnv1a(data):
    """FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def is_identifier(segment):
    """Digits only, or at least eight of hexadecimal digits and '-' with a decimal digit."""
    digits = sum(byte in b"0123456789" for byte in segment)
    if digits and digits == len(segment):
        return True
    return digits > 0 and len(segment) >= 8 and all(byte in b"0123456789abcdefABCDEF-" for byte in segment)


def folded(path, whole=True):
    """The path as it is counted: one '*' for every identifier, a '+' for a segment that was cut."""
    *before, last = path.split(b"/")
    segments = [*before, last if whole else None]
    return b"/".join(b"+" if each is None else b"*" if is_identifier(each) else each for each in segments)


def visible_path(head, start, length):
    """The path in head[start:length], and whether its end lies inside what is read."""
    text = head[start:length][:ROUTE_TEXT_BYTES]
    ends = [at for at, byte in enumerate(text) if byte in b" ?\r\n"]
    return (text[: ends[0]], True) if ends else (text, False)


# --- the kernel's ----------------------------------------------------------------------


def read_path(native, head, start, length, dirt=0xAA):
    """Run read_path on a head whose every other byte holds `dirt`."""
    state = Head()
    ctypes.memset(ctypes.byref(state), dirt, ctypes.sizeof(state))
    padded = head[:HEAD_BYTES].ljust(HEAD_BYTES, bytes([dirt]))
    ctypes.memmove(state.bytes, padded, HEAD_BYTES)
    route = native.path_in(ctypes.byref(state), start, length)
    text = ctypes.string_at(ctypes.addressof(state.text) + RouteText.path.offset, ROUTE_TEXT_BYTES)
    return route, text, state.text.length, state.text.whole


def route_of(native, path):
    head = b"GET " + path + b" HTTP/1.1\r\n"
    return read_path(native, head, 4, min(len(head), HEAD_BYTES))[0]


def method_in(native, text):
    length = ctypes.c_uint32(99)
    return native.method_in(text.ljust(8, b"\0")[:8], ctypes.byref(length)), length.value


def status_in(native, line):
    return native.status_in(line.ljust(12, b"\0"))


SEGMENTS = st.one_of(
    st.text("0123456789", min_size=0, max_size=12),
    st.text("0123456789abcdefABCDEF-", min_size=6, max_size=10),
    st.uuids().map(str),
    st.uuids().map(lambda each: each.hex.upper()),
    st.sampled_from(["users", "feed", "face", "deadbeef", "--------", "-------1", "v1", "*", "g1234567", "1234567g"]),
    st.text("0aA-gG._~%@*", max_size=9),
).map(str.encode)
RAW_SEGMENTS = st.binary(max_size=12).map(lambda raw: bytes(byte for byte in raw if byte not in b" ?\r\n/"))
PATHS = st.lists(st.one_of(SEGMENTS, RAW_SEGMENTS), max_size=6).map(lambda each: b"/" + b"/".join(each))
SHORT_PATHS = PATHS.filter(lambda path: len(path) < ROUTE_TEXT_BYTES)


def test_the_mirrors_in_layout_have_the_sizes_of_the_headers(native):
    assert native.size_of_head() == ctypes.sizeof(Head)
    assert native.size_of_cgroup_cpu() == ctypes.sizeof(CgroupCpu)
    assert native.size_of_bank_config() == ctypes.sizeof(BankConfig)
    assert native.size_of_request_stats() == ctypes.sizeof(RequestStats)


# --- methods ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_is_known_with_the_length_up_to_its_path(native, method):
    start = method.name.encode() + b" "
    assert method_in(native, start + b"/index") == (method, len(start))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_near_miss_of_a_method_is_none(native, method):
    name = method.name.encode()
    misses = [name.lower() + b" ", name.title() + b" ", name + b"X ", name + b"\t", name + b"\0", name[:-1] + b" "]
    misses += [name[:at] + bytes([name[at] ^ 0x20]) + name[at + 1 :] + b" " for at in range(len(name))]
    misses += [b" " + name + b" ", name[1:] + b" ", name[:1] + b" "]
    for miss in misses:
        assert method_in(native, miss + b"/")[0] == 0, miss


@SETTINGS
@given(
    st.one_of(
        st.binary(min_size=8, max_size=8),
        st.tuples(
            st.sampled_from([each.name for each in METHODS]), st.binary(min_size=8, max_size=8), st.integers(0, 8)
        )
        .map(lambda parts: parts[0].encode()[: parts[2]] + parts[1])
        .map(lambda text: text[:8]),
        st.tuples(st.sampled_from([each.name for each in METHODS]), st.binary(min_size=8, max_size=8)).map(
            lambda parts: (parts[0].encode() + b" " + parts[1])[:8]
        ),
    )
)
def test_a_method_is_what_stands_before_the_first_space(native, text):
    names = {each.name.encode(): each for each in METHODS}
    name, space, _ = text.partition(b" ")
    expected = names.get(name) if space else None
    method, length = method_in(native, text)
    assert method == (expected or 0)
    if expected:
        assert length == len(name) + 1


# --- paths -----------------------------------------------------------------------------


def test_the_reference_hash_is_the_published_fnv_1a():
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a(b"foobar") == 0x85944171F73967E8


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", b"/"),
        (b"/users", b"/users"),
        (b"/users/", b"/users/"),
        (b"/users/42", b"/users/*"),
        (b"/users/42/", b"/users/*/"),
        (b"/users/42/orders/7", b"/users/*/orders/*"),
        (b"/0", b"/*"),
        (b"//1//", b"//*//"),
        (b"/v1", b"/v1"),
        (b"/1v", b"/1v"),
        (b"/deadbeef", b"/deadbeef"),
        (b"/deadbee1", b"/*"),
        (b"/deadbe1", b"/deadbe1"),
        (b"/DEADBEE1", b"/*"),
        (b"/deadbeg1", b"/deadbeg1"),
        (b"/--------", b"/--------"),
        (b"/2024-01-31", b"/*"),
        (b"/1-2", b"/1-2"),
        (b"/550e8400-e29b-41d4-a716-446655440000", b"/*"),
        (b"/550e8400-e29b-41d4-a716-446655440000.png", b"/550e8400-e29b-41d4-a716-446655440000.png"),
        (b"/1234567890123456789012345678901234567890", b"/*"),
        (b"/12\x0034", b"/12\x0034"),
        (b"/\xd9\xa1\xd9\xa2", b"/\xd9\xa1\xd9\xa2"),  # Arabic digits are no digits here
        (b"/12\t", b"/12\t"),
        (b"*", b"*"),
        (b"", b""),
        (b"example.org:443", b"example.org:443"),
    ],
)
def test_a_route_is_the_path_with_one_star_for_each_identifier(native, path, expected):
    assert folded(path) == expected
    assert route_of(native, path) == fnv1a(expected)


@SETTINGS
@given(
    path=PATHS,
    method=st.sampled_from([each.name.encode() for each in METHODS]),
    end=st.sampled_from([b" HTTP/1.1\r\n", b"?token=s3cret HTTP/1.1\r\n", b"\r\n", b"\n", b"?", b""]),
    cut=st.integers(16, HEAD_BYTES),
)
@example(path=b"/" + b"a" * 110, method=b"GET", end=b"?x=1", cut=HEAD_BYTES)
@example(path=b"/" + b"a" * 111, method=b"GET", end=b"?x=1", cut=HEAD_BYTES)
@example(path=b"/" + b"a" * 119, method=b"OPTIONS", end=b"", cut=HEAD_BYTES)
@example(path=b"/" + b"1" * 200, method=b"CONNECT", end=b" ", cut=HEAD_BYTES)
@example(path=b"/" + b"a" * 100 + b"/" + b"5" * 100, method=b"GET", end=b" ", cut=HEAD_BYTES)
@example(path=b"/users/42", method=b"GET", end=b" HTTP/1.1", cut=16)
def test_hash_text_length_and_whole_are_those_of_the_bytes_that_were_read(native, path, method, end, cut):
    head = method + b" " + path + end
    length = min(len(head), cut, HEAD_BYTES)
    start = len(method) + 1
    seen, whole = visible_path(head, start, length)
    route, text, text_length, was_whole = read_path(native, head, start, length)
    assert route == fnv1a(folded(seen, whole))
    assert text == seen.ljust(ROUTE_TEXT_BYTES, b"\0")
    assert text_length == len(seen)
    assert was_whole == whole


@SETTINGS
@given(head=st.binary(min_size=16, max_size=HEAD_BYTES), start=st.integers(4, 8))
def test_any_bytes_at_all_are_read_without_looking_past_the_length(native, head, start):
    seen, whole = visible_path(head, start, len(head))
    expected = fnv1a(folded(seen, whole)), seen.ljust(ROUTE_TEXT_BYTES, b"\0"), len(seen), whole
    for dirt in (0x00, ord("/"), ord("7"), 0xFF):
        assert read_path(native, head, start, len(head), dirt) == expected


@SETTINGS
@given(first=SHORT_PATHS, second=SHORT_PATHS)
def test_two_paths_are_one_route_exactly_when_they_fold_alike(native, first, second):
    assert (route_of(native, first) == route_of(native, second)) == (folded(first) == folded(second))


@SETTINGS
@given(segments=st.lists(SEGMENTS, min_size=1, max_size=3), change=st.data())
def test_another_identifier_in_the_same_place_is_the_same_route(native, segments, change):
    other = [
        change.draw(st.sampled_from([b"7", b"00", b"a1b2c3d4", str(uuid.UUID(int=5)).encode()]))
        if is_identifier(each)
        else each
        for each in segments
    ]
    assume(other != segments)
    assert route_of(native, b"/" + b"/".join(segments)) == route_of(native, b"/" + b"/".join(other))


@SETTINGS
@given(segments=st.lists(SEGMENTS, min_size=1, max_size=3))
def test_the_kernel_and_the_template_agree_on_what_an_identifier_is(native, segments):
    for segment in segments:
        in_kernel = route_of(native, b"/" + segment) == fnv1a(b"/*") and segment != b"*"
        assert in_kernel == (Merges().template(RequestPath(b"/" + segment)) == "/{id}")


@SETTINGS
@given(path=SHORT_PATHS, query=st.binary(max_size=40))
def test_a_query_string_changes_nothing_and_is_not_kept(native, path, query):
    head = b"GET " + path + b"?" + query
    plain = b"GET " + path + b" "
    assume(len(plain) <= HEAD_BYTES)
    with_query = read_path(native, head, 4, min(len(head), HEAD_BYTES))
    assert with_query == read_path(native, plain, 4, len(plain))
    assert b"?" not in with_query[1]


def test_a_path_that_fills_the_text_does_not_show_its_end(native):
    """111 bytes are whole; at 112 the byte after the path is not looked at, so it counts as cut."""
    for size, whole in ((ROUTE_TEXT_BYTES - 1, 1), (ROUTE_TEXT_BYTES, 0)):
        head = b"GET /" + b"a" * (size - 1) + b" HTTP/1.1"
        route, text, length, was_whole = read_path(native, head, 4, len(head))
        assert (length, was_whole) == (size, whole)
        assert route == fnv1a(b"/" + b"a" * (size - 1) if whole else b"/+")
        assert text.rstrip(b"\0") == b"/" + b"a" * (size - 1)


# --- statuses --------------------------------------------------------------------------


def test_every_status_from_100_to_999_is_read(native):
    for version in (b"0", b"1"):
        for status in range(100, 1000):
            assert status_in(native, b"HTTP/1." + version + b" %d" % status) == status


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 099",
        b"HTTP/1.1 000",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2 0",
        b"HTTP/1.1  20",
        b"HTTP/1.1 -20",
        b"HTTP/1.1 20x",
        b"HTTP/1.1 2x0",
        b"HTTP/1.1 x00",
        b"HTTP/1.1 :00",
        b"HTTP/1.1 2:0",
        b"HTTP/1.1 20:",
        b"HTTP/1.1 /00",
        b"HTTP/1.1 20\xff",
        b"HTTP/1.1 \xb2\xb0\xb0",
        b"HTTP/1.1\r\n200",
        b"HTTP/2.0 200",
        b"HTTP/11 2000",
        b"HTTP/ 1.1 200",
        b"http/1.1 200",
        b"HTTPS/1.1 20",
        b"XTTP/1.1 200",
        b"ICY 200 OK\r\n",
        b"GET / HTTP/1",
        b"\0" * 12,
        b"\xff" * 12,
    ],
)
def test_a_malformed_status_line_is_none(native, line):
    assert status_in(native, line) == 0


@SETTINGS
@given(st.binary(min_size=3, max_size=3))
def test_a_status_is_three_decimal_digits_that_do_not_start_with_zero(native, digits):
    valid = all(byte in b"0123456789" for byte in digits) and digits[:1] != b"0"
    assert status_in(native, b"HTTP/1.1 " + digits) == (int(digits) if valid else 0)


@SETTINGS
@given(st.integers(0, 6), st.integers(0, 255))
def test_no_other_byte_can_stand_in_the_protocol_name(native, at, byte):
    line = bytearray(b"HTTP/1.1 200")
    assume(line[at] != byte)
    line[at] = byte
    assert status_in(native, bytes(line)) == 0


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1X200", b"HTTP/1.1/200", b"HTTP/1.  200", b"HTTP/1.\0\xff200", b"HTTP/1.10200"]
)
def test_a_status_line_has_a_minor_version_and_a_space(native, line):
    assert status_in(native, line) == 0
