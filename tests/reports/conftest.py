"""A real browser, what it is asked with, and where pictures go: shared by all pages' tests."""

import shutil
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium")
#: A box is some pixels higher than the letters in it.
CROWDED = """() => [...document.querySelectorAll('svg')].flatMap((svg) => {
  const box = svg.getBoundingClientRect(), found = [];
  const texts = [...svg.querySelectorAll('text')].map((each) => [each.textContent, each.getBoundingClientRect()]);
  const out = ([, r]) => r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1;
  for (const each of texts) if (out(each)) found.push(`${each[0]} | leaves its picture`);
  texts.forEach(([one, a], place) => texts.slice(place + 1).forEach(([other, b]) => {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 2) found.push(`${one} | ${other} | by ${across.toFixed(1)} x ${down.toFixed(1)} px`);
  }));
  return found;
})"""  # noqa: E501


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def images():
    """Where pictures of pages are left to be looked at."""
    folder = Path(__file__).parents[2] / "build" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def serious():
    """What axe-core finds on a tab that is serious or critical; the tab's context has to bypass the page's policy."""
    script = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

    def found(tab):
        tab.evaluate(script)
        violations = tab.evaluate("axe.run(document, { resultTypes: ['violations'] }).then((all) => all.violations)")
        return [
            (each["id"], [node["html"][:120] for node in each["nodes"]][:3])
            for each in violations
            if each["impact"] in ("serious", "critical")
        ]

    return found


@pytest.fixture(scope="session")
def crowded():
    """Texts of a tab's pictures that lie on each other, or leave their picture."""
    return lambda tab: tab.evaluate(CROWDED)
