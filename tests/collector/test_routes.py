import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.routes import RouteNames, template_of


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
