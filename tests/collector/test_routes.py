import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.routes import RouteNames, template_of
from collector.traffic import pack, unpack


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


def test_a_hash_without_a_text_lands_in_overflow():
    names = RouteNames()
    names.learn(5, b"/a/1", whole=True)
    assert (names.name(5), names.name(6)) == ("/a/{id}", "__overflow__")


@given(
    st.binary(min_size=32, max_size=32), st.lists(st.tuples(st.integers(0, 431), st.integers(1, 2**32 - 1)), max_size=6)
)
def test_a_packed_snapshot_unpacks_to_what_it_was(sums, buckets):
    value = bytearray(sums + bytes(4 * 432))
    for bucket, count in buckets:
        value[32 + 4 * bucket : 36 + 4 * bucket] = count.to_bytes(4, "little")
    assert unpack(pack(bytes(value))) == bytes(value)
