"""Lines of one picture can be told apart by those who see fewer colours, in light and dark.

Simulated as F. Viénot, H. Brettel, J. Mollon do, Digital video colourmaps for checking the legibility of displays by
dichromats (1999); distances are CIE 1976 L*a*b*.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import reports

CSS = (Path(reports.__file__).parent / "page.css").read_text(encoding="utf-8")
SCHEMES = dict(zip(("light", "dark"), re.findall(r":root \{(.*?)\}", CSS, re.DOTALL), strict=False))
#: Styles that share a lane or a chart; one of a pair may be dashed instead.
TOGETHER = (("a", "b", "c"), ("bad", "a", "c"))
DASHED = {"c"}
TO_LMS = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
SEEN = {
    "everybody": np.eye(3),
    "protanope": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranope": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ rgb / np.array([0.9505, 1.0, 1.089]), 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("who", SEEN)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_of_one_picture_are_told_apart(scheme, who):
    colours = {name: linear(value) for name, value in re.findall(r"--(\w+): #([0-9a-f]{6})\b", SCHEMES[scheme])}
    seen = {name: lab(np.clip(np.linalg.inv(TO_LMS) @ SEEN[who] @ TO_LMS @ rgb, 0, 1)) for name, rgb in colours.items()}
    for styles in TOGETHER:
        for one, other in itertools.combinations(styles, 2):
            if len(DASHED & {one, other}) != 1:
                assert np.linalg.norm(seen[one] - seen[other]) > 25, (one, other)


def test_the_dashed_style_is_dashed():
    assert re.search(r"\.l\.c \{[^}]*stroke-dasharray", CSS)
