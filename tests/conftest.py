"""Fixtures that several rooms' tests share."""

import gzip
import re
import shutil
from pathlib import Path

import pytest

import headroom.demo
from collector.doctor import can_record

ROOT = Path(__file__).parent.parent
_DECIMAL = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?")


def pytest_addoption(parser):
    parser.addoption("--golden", action="store_true", help="rewrite the golden files")


def pytest_collection_modifyitems(items):
    if not any(item.get_closest_marker("kernel") for item in items):
        return
    refusal = can_record()
    for item in items:
        if refusal and item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason=f"cannot record here: {refusal}"))


@pytest.fixture
def recorded(tmp_path):
    """The recording that ships with headroom, unpacked: real servers, our own agent."""
    store = tmp_path / "recorded.db"
    packed = Path(headroom.demo.__file__).parent / "recording.db.gz"
    with gzip.open(packed) as source, store.open("wb") as target:
        shutil.copyfileobj(source, target)
    return store


@pytest.fixture
def golden(request):
    """Compare text with tests/golden/NAME; --golden writes it instead.

    Decimals may differ after the tenth digit: processors add vectors up in different orders.
    """

    def check(name, text):
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        expected = path.read_text()
        advice = f"differs from {path}; if that is wanted: make golden"
        assert _DECIMAL.sub("#", text) == _DECIMAL.sub("#", expected), advice
        numbers, wanted = ([float(number) for number in _DECIMAL.findall(each)] for each in (text, expected))
        assert numbers == pytest.approx(wanted, rel=1e-10), advice

    return check
