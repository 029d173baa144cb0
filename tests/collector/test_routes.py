import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.packed import pack, unpack
from collector.routes import Merges, Pattern, RequestPath
from profiles.errors import UsageError


def template_of(path, whole=True):
    return Merges().template(RequestPath(path, whole))


def with_patterns(*patterns):
    merges = Merges()
    for each in patterns:
        merges.add(Pattern.parse(each))
    return merges


@pytest.mark.parametrize(
    ("path", "template"),
    [
        (b"/", "/"),
        (b"", "/"),
        (b"/users/42/orders", "/users/{id}/orders"),
        (b"/v1/orders/0a1b2c3d-0000-1111-2222-0123456789ab", "/v1/orders/{id}"),
        (b"/feed/face/cafe", "/feed/face/cafe"),
        (b"/commit/deadbeef01", "/commit/{id}"),
        (b"/reset/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0", "/reset/{redacted}"),
        (b"/u/jane.doe@example.org/inbox", "/u/{redacted}/inbox"),
        (b"/u/jane%40example.org", "/u/{redacted}"),
        (b"http://shop.example/cart/7", "/cart/{id}"),
        (b"/caf\xc3\xa9\x00\x1b[31m", "/caf????[31m"),
        (b"/" + b"x" * 90, "/" + "x" * 48),
    ],
)
def test_a_path_becomes_its_template(path, template):
    assert template_of(path) == template


def test_a_path_that_was_cut_says_so():
    assert template_of(b"/search/a-very-long", whole=False) == "/search/{cut}"


@given(st.binary(max_size=112))
def test_a_template_is_printable_and_bounded_whatever_the_bytes(path):
    template = template_of(path)
    assert template.isascii()
    assert template.isprintable()
    assert len(template) <= 6 * 112


@pytest.mark.parametrize(
    ("path", "template"),
    [
        (b"/users/anna", "/users/{name}"),
        (b"/users/42", "/users/{name}"),
        (b"/users/me", "/users/me"),
        (b"/users/anna/orders", "/users/{name}/orders"),
        (b"/users/anna/orders/7", "/users/{name}/orders/{id}"),
        (b"/users", "/users"),
        (b"/other/anna", "/other/anna"),
    ],
)
def test_the_user_says_what_a_segment_is_called(path, template):
    assert with_patterns("/users/{name}/orders", "/users/me").template(RequestPath(path)) == template


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/users/{name}", b"/users/anna", True),
        ("/users/{name}", b"/users/", False),
        ("/users/{name}", b"/users/anna/", False),
        ("/users/{name}", b"/shops/anna", False),
        ("/", b"/", True),
    ],
)
def test_which_paths_a_pattern_is_of(pattern, path, matches):
    assert Pattern.parse(pattern).matches(RequestPath(path)) == matches
    assert not Pattern.parse(pattern).matches(RequestPath(path, whole=False))


@pytest.mark.parametrize(
    "text", ["", "users", "/users/x{name}", "/users/{}", "/a b", "/a?b={c}", "/*", "/caf\u00e9", "/{a"]
)
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(UsageError, match="is no route pattern"):
        Pattern.parse(text)


@given(
    st.binary(min_size=32, max_size=32), st.lists(st.tuples(st.integers(0, 431), st.integers(1, 2**32 - 1)), max_size=6)
)
def test_a_packed_snapshot_unpacks_to_what_it_was(sums, buckets):
    value = bytearray(sums + bytes(4 * 432))
    for bucket, count in buckets:
        value[32 + 4 * bucket : 36 + 4 * bucket] = count.to_bytes(4, "little")
    assert unpack(pack(bytes(value))) == bytes(value)
