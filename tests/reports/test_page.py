"""The page in a real browser: what it does, what it refuses, and what it looks like."""

import copy
import gzip
import itertools
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

import headroom.demo
from headroom.reporting import report_of
from recommender.resources import RESOURCE_NAMES, format_resource
from reports.html import to_html

MEBIBYTE = 2**20
COLUMNS = ("name", "class", *RESOURCE_NAMES, "limit_adds", "month_saves", "confidence", "why")
EVIL = (
    "\"'><img src=x onerror=window.hit=1></script></pre><script>window.hit=1</script>"
    "<svg onload=window.hit=1>{{7*7}} {% raw %} ${1} \x02\x0b\x1f\x7f\u202eabc\u2028\ufeff&lt;]]>--> ja\u0300\U0001f600"
)
LONG = "w" * 300
#: Strings that steer the drawing, or are of our own few; every other one is somebody's text.
STEERING, FEW = {"verdict", "latency_of"}, {"class", "classes", "currency"}
VISIBLE = "[...document.querySelectorAll('table.sizes tbody tr')].filter((row) => row.checkVisibility())"
SHOWN_NAMES = f"{VISIBLE}.map((row) => row.cells[0].textContent.trim())"
#: What is fainter than WCAG AA asks for, on its background or, where nothing is behind it, on white.
FAINT = """(onPaper) => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (each) => {
    for (; each && !onPaper; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return light(colour);
    }
    return 1;
  };
  const found = new Set();
  for (const each of document.querySelectorAll('body *')) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !each.checkVisibility() || /^(SCRIPT|STYLE|OPTION)$/i.test(each.tagName)) continue;
    const style = getComputedStyle(each);
    const ink = light(rgba(each.closest('svg') ? style.fill : style.color)), paper = behind(each);
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) found.add(`${ratio.toFixed(2)} ${each.tagName} ${each.getAttribute('class') ?? ''}`);
  }
  if (!onPaper) {
    const box = document.getElementById('search'), ink = light(rgba(getComputedStyle(box, '::placeholder').color));
    const ratio = (Math.max(ink, behind(box)) + 0.05) / (Math.min(ink, behind(box)) + 0.05);
    if (ratio < 4.5) found.add(`${ratio.toFixed(2)} the placeholder of the search`);
  }
  return [...found];
}"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The document of the recording that ships with headroom; not to be written to."""
    store = tmp_path_factory.mktemp("recorded") / "recorded.db"
    with gzip.open(Path(headroom.demo.__file__).parent / "recording.db.gz") as packed, store.open("wb") as target:
        shutil.copyfileobj(packed, target)
    return report_of(store, "balanced", None)


@pytest.fixture
def show(browser, tmp_path):
    """Opens a document's page; nothing may go wrong in it, and nothing but itself may be asked for."""
    contexts, problems = [], []

    def opened(document, fragment="", width=1360, **options):
        path = tmp_path / f"{len(contexts)}.html"
        path.write_text(to_html(document), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on(
            "request", lambda asked: problems.append(asked.url) if asked.url.split("#")[0] != path.as_uri() else None
        )
        tab.goto(path.as_uri() + fragment)
        return tab

    opened.problems = problems
    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def sized(record, now, then):
    """The record with these sizes in force and advised."""
    for key, values in (("current", now), ("target", then)):
        known = dict(zip(RESOURCE_NAMES, values, strict=True))
        record[key] = known | {"quantities": {name: format_resource(name, value) for name, value in known.items()}}
    return record


def copies(document, number):
    """Its records again and again under other names, with other sizes, money and things to do."""
    records = []
    for place, one in zip(range(number), itertools.cycle(document["recommendations"])):
        record = copy.deepcopy(one) | {
            "namespace": "shop",
            "workload": f"app-{place:03}",
            "container": "main",
            "name": f"shop/app-{place:03}/main",
            "verdict": ("resize", "resize", "keep", "refuse")[place * 5 % 4],
            "month_saves": None if place % 5 == 4 else (place * 29 % 17 - 8) * 1.5,
            "why": f"because of {place * 3 % 7}",
        }
        cores, size = [[None, *(each / 8 for each in (1, 20, 3, 9, 2))][place * step % 6] for step in (1, 5)], place % 9
        memory = [None if size == 8 else (size + 1) * 64.0 * MEBIBYTE, 1024.0 * MEBIBYTE]
        sized(record, (0.5, 1.0, None, 1024.0 * MEBIBYTE), (*cores, *memory))
        records.append(record)
    summary = document["summary"] | {"containers": number, "changes_most": [1, 2]}
    return document | {"recommendations": records, "summary": summary}


def value_of(record, column):
    """What a column is sorted by."""
    places = {"limit_adds": record["predicted"], **dict.fromkeys(RESOURCE_NAMES, record["target"])}
    return places.get(column, record)[column]


def names_of(records):
    return [value_of(record, "name") for record in records]


def by(records, column, *, down=False):
    known = [record for record in records if value_of(record, column) is not None]
    known.sort(key=lambda record: value_of(record, column), reverse=down)  # ties stay in the order of the document
    return names_of([*known, *(record for record in records if value_of(record, column) is None)])


def search(tab, text):
    tab.fill("#search", text)
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return tab.evaluate(SHOWN_NAMES)


def test_search_finds_rows_that_have_all_words_in_any_order_and_case(show, small):
    document = copies(small, 24)
    tab = show(document)
    assert search(tab, "  of IDLE because ") == names_of(r for r in document["recommendations"] if r["class"] == "idle")
    assert search(tab, "app-003") == ["shop/app-003/main"]
    assert tab.text_content("#shown") == "1 of 24 shown"
    assert search(tab, "no such thing") == []
    assert len(search(tab, "")) == 24


def test_class_and_to_do_narrow_what_is_found(show, small):
    records = copies(small, 24)["recommendations"]
    tab = show(copies(small, 24))
    tab.select_option("#class", "latency-sensitive")
    exactly = [record for record in records if record["class"] == "latency-sensitive"]
    assert tab.evaluate(SHOWN_NAMES) == names_of(exactly)
    tab.select_option("#verdict", label="without a size")
    both = names_of(record for record in exactly if record["verdict"] == "refuse")
    assert both
    assert tab.evaluate(SHOWN_NAMES) == both
    tab.select_option("#class", "")
    assert tab.evaluate(SHOWN_NAMES) == names_of(record for record in records if record["verdict"] == "refuse")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_is_sorted_both_ways_with_the_mouse_and_the_keyboard(show, small, column):
    """By what a size becomes; what is not known is last, whichever way."""
    records = copies(small, 24)["recommendations"]
    tab = show(copies(small, 24))
    button = tab.locator("table.sizes th button").nth(COLUMNS.index(column))
    button.click()
    assert tab.evaluate(SHOWN_NAMES) == by(records, column)
    assert tab.locator("table.sizes th[aria-sort]").get_attribute("aria-sort") == "ascending"
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate(SHOWN_NAMES) == by(records, column, down=True)
    assert tab.locator("table.sizes th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_the_keyboard_alone_reaches_search_headings_and_links(show, small):
    tab = show(copies(small, 24))
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "search"
    tab.keyboard.type("a/m")
    assert tab.input_value("#search") == "a/m"
    tab.fill("#search", "")
    reached = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.textContent.trim()"))
        if reached[-1] == "shop/app-000/main":
            break
    assert [each for each in reached if each in ("workload", "CPU limit", "why")] == ["workload", "CPU limit", "why"]
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.querySelector('details.workload').open")


def test_a_link_opens_its_section_and_shows_it(show, small):
    tab = show(copies(small, 24))
    assert tab.locator("details.workload[open]").count() == 0
    tab.click("table.sizes a >> text=app-017")
    assert tab.locator("details.workload[open] h3").all_text_contents() == ["shop/app-017/main"]
    tab.wait_for_timeout(50)
    top = tab.locator("details.workload h3").nth(17).evaluate("each => each.getBoundingClientRect().top")
    assert 0 <= top < 850, "whose section it is cannot be seen"
    again = show(copies(small, 24), fragment="#w17")
    assert again.locator("details.workload[open] h3").all_text_contents() == ["shop/app-017/main"]


def test_what_is_copied_is_the_patch_as_it_stands_in_the_document(show, small):
    document = copies(small, 9)
    tab = show(document, permissions=["clipboard-read", "clipboard-write"])
    tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    button = tab.locator("#w3 button.copy").first
    assert button.text_content() == "Copy"
    button.click()
    expect(tab.locator("#w3 button.copy").first).to_have_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == document["recommendations"][3]["patch"]


def test_a_large_report_shows_a_hundred_rows_until_asked_for_all(show, small):
    records = copies(small, 160)["recommendations"]
    tab = show(copies(small, 160))
    assert tab.evaluate(SHOWN_NAMES) == names_of(records[:100])
    assert tab.text_content("#shown") == "100 of 160 shown, 160 found"
    tab.locator("table.sizes th button").nth(COLUMNS.index("memory_request_bytes")).click()
    assert tab.evaluate(SHOWN_NAMES) == by(records, "memory_request_bytes")[:100]
    assert search(tab, "app-159") == ["shop/app-159/main"]
    assert tab.locator("#all").is_hidden()
    assert len(search(tab, "")) == 100
    tab.click("text=Show all")
    assert tab.evaluate(SHOWN_NAMES) == by(records, "memory_request_bytes")
    assert tab.text_content("#shown") == "160 of 160 shown"


def test_pictures_and_patches_of_a_large_report_are_those_of_a_small_one(show, small):
    """Unpacked when a section is opened, and not before."""
    document = copies(small, 160)
    one_of_few = show(document | {"recommendations": document["recommendations"][:150]})
    wanted = [one_of_few.inner_html(f"#w133 {part}") for part in (".figures", ".patch")]
    tab = show(document, permissions=["clipboard-read", "clipboard-write"])
    assert tab.locator("svg, pre").count() == 0
    tab.locator("details.workload").nth(133).locator("summary").first.click()
    tab.locator("#w133 svg").first.wait_for()
    assert [tab.inner_html(f"#w133 {part}") for part in (".figures", ".patch")] == wanted
    assert tab.locator("svg").count() == tab.locator("#w133 svg").count() > 1
    tab.click("#w133 summary >> text=Patch")
    tab.locator("#w133 button.copy").first.click()
    expect(tab.locator("#w133 button.copy").first).to_have_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == document["recommendations"][133]["patch"]


@pytest.mark.parametrize("number", [24, 160])
def test_without_script_everything_that_is_text_is_there_and_links_open_sections(show, small, number):
    document = copies(small, number)
    tab = show(document, java_script_enabled=False)
    assert tab.locator(".tools").is_hidden()
    assert tab.locator("button").evaluate_all("all => all.filter((each) => each.checkVisibility()).length") == 0
    assert tab.evaluate(SHOWN_NAMES) == names_of(document["recommendations"])
    text = " ".join(tab.locator("main").text_content().split())
    for record in document["recommendations"]:
        for said in (record["class_evidence"][1:], record["why"], *record["remarks"], *record["reasons"].values()):
            assert " ".join(said.split()) in text
    tab.click("table.sizes a >> text=app-017")
    assert tab.locator("#w17").is_visible()
    assert tab.locator("noscript p").count() == (number > 150)
    assert tab.locator("svg").count() == (0 if number > 150 else to_html(document).count("<svg"))


def test_paper_has_every_row_and_every_section(show, small):
    tab = show(copies(small, 160))
    tab.emulate_media(media="print")
    assert len(tab.evaluate(SHOWN_NAMES)) == 160
    assert tab.locator(".tools").is_hidden()
    closed = show(copies(small, 12)).pdf()
    assert len(re.findall(rb"/Type\s*/Page\b", closed)) > 12, "a section with its pictures takes more than a page"


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(show, small, scheme, media):
    """On paper that is white: browsers print no backgrounds."""
    tab = show(rich(small), color_scheme=scheme)
    tab.emulate_media(media=media, color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert tab.evaluate(FAINT, media == "print") == []


def rich(document):
    """All that a page may have, on few records: risks, money, changes, autoscalers, losses, rollouts, kills."""
    made = copies(document, 6)
    for record in made["recommendations"]:
        timeline = record["timeline"]
        steps = max(map(len, timeline["columns"].values()))
        timeline["columns"]["oom_kills"] = [float(place == 20) for place in range(steps)]
        timeline["columns"]["throttled_share"] = [place % 7 / 20 for place in range(steps)]
        begin = timeline["start_unix_seconds"]
        record["deployed_unix_seconds"] = [begin + 5 * timeline["step_seconds"]]
        record["risks"] = [
            {"kind": "out of memory", "sentence": "the kernel killed it 2 times", "removed": True},
            {"kind": "throttled", "sentence": "its CPU limit stopped it in 5.0% of periods", "removed": False},
        ]
        record["runtime"], record["routes_more"] = "jvm", 3
    name = "shop/app-001/main"
    one = {"name": name, "sentence": "P95 is 9 ms, and was 5 ms at most"}
    metric = {"kind": "Resource", "name": "cpu", "container": "main", "utilization_percent": 80}
    money = {"month_saves": 12.5, "month_freed": 20.0, "month_added": 7.5, "cores_before": 9.0, "cores_freed": 1.0}
    return made | {
        "changes": {"since_unix_seconds": 1.7e9, "applied": [one], "regressed": [one]}
        | {"new": [name], "gone": [name] * 30, "advice": [name]},
        "autoscalers": [
            {"cluster": "c", "namespace": "shop", "autoscaler": "app", "index": 0, "metric": metric}
            | {"before": 80, "after": 120, "replicas_change": 0.004}
        ],
        "recording": made["recording"] | {"lost": {"ring_full": 3}, "clock_steps": 2},
        "summary": made["summary"] | money | {"risks_removed": 6, "risks_left": 6, "refuse": 1},
        "common": [{"sentence": "no traffic", "containers": 3}],
        "skipped": [{"sentence": "nothing recorded", "containers": [3]}],
    }


def often(document):
    """Rollouts and kills that follow each other closely."""
    made = rich(document)
    for record in made["recommendations"]:
        begin = record["timeline"]["start_unix_seconds"]
        record["deployed_unix_seconds"] = [begin + 5, begin + 7, begin + 40]
        kills = record["timeline"]["columns"]["oom_kills"]
        kills[20:23] = kills[-3:] = [1.0, 1.0, 1.0]
    return made


def at_other_times(document):
    """The same steps at other times of day, and longer ones."""
    made = rich(document)
    made["recommendations"] = [copy.deepcopy(record) for record in made["recommendations"] for _ in range(4)]
    for place, record in enumerate(made["recommendations"]):
        timeline = record["timeline"]
        step = (1, 60, 3600, 10_800)[place % 4]
        timeline["start_unix_seconds"] = (1.7e9 + place * 7 * step) // step * step
        timeline["step_seconds"] = timeline["latency_step_seconds"] = step
        record["deployed_unix_seconds"] = []
    return made


def close_together(document):
    """Requests and limits, now and then, within a few percent of each other and of the use."""
    made = rich(document)
    for record, apart in zip(made["recommendations"], (1.01, 1.02, 1.05, 1.1, 1.3, 1.6), strict=True):
        columns = record["timeline"]["columns"]
        cores = max(each for each in columns["cpu_cores"] if each is not None)
        size = max(each for each in columns["memory_working_set_bytes"] if each is not None)
        mebibytes = round(size / MEBIBYTE)
        now = (cores * apart**3, cores * apart**2, (mebibytes + 2) * MEBIBYTE, (mebibytes + 3) * MEBIBYTE)
        sized(record, now, (cores, cores * apart, mebibytes * MEBIBYTE, (mebibytes + 1) * MEBIBYTE))
    return made


@pytest.mark.parametrize("make", [dict, rich, often, at_other_times, close_together])
def test_no_text_of_a_picture_lies_on_another_or_leaves_its_picture(show, crowded, small, make):
    tab = show(make(small))
    assert tab.locator("svg").count() > 5
    found = crowded(tab)
    assert not found, "\n".join(found)


def test_no_script_but_the_pages_own_ever_runs(show, small):
    tab = show(small)
    tab.evaluate("""() => {
      document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.hit = 1' }));
      const into = document.createElement('p');
      into.innerHTML = '<img src=x onerror="window.hit = 1"><b style="color: red" onclick="window.hit = 1">x</b>';
      document.body.append(into);
      into.querySelector('b').click();
      const script = document.createElement('script');
      document.body.append(Object.assign(script, { src: 'data:text/javascript,window.hit=1' }));
    }""")
    tab.wait_for_timeout(100)
    assert tab.evaluate("window.hit") is None
    assert tab.evaluate("getComputedStyle(document.querySelector('p b[style]')).color") != "rgb(255, 0, 0)"
    assert len([each for each in show.problems if "Content Security Policy" in each]) >= 4
    show.problems.clear()


@pytest.mark.parametrize(
    ("number", "scheme", "width"), [(0, "light", 1360), (0, "light", 390), (0, "dark", 1360), (151, "dark", 390)]
)
def test_axe_finds_nothing_serious(show, serious, small, number, scheme, width):
    tab = show(copies(small, number) if number else rich(small), color_scheme=scheme, width=width, bypass_csp=True)
    if number:
        tab.locator("details.workload").nth(2).locator("summary").first.click()
        tab.locator("#w2 svg").first.wait_for()
    tab.evaluate("document.querySelectorAll('details[open] details').forEach((each) => { each.open = true; })")
    assert serious(tab) == []


def poisoned(value, text, but=frozenset(STEERING), key=""):
    """Plain data with every string that is somebody's replaced, in names of things as well."""
    if isinstance(value, dict):
        said = {name: poisoned(each, text, but, name) for name, each in value.items()}
        return {text: next(iter(said.values()))} if said and key in {"lost", "classes"} - but else said
    if isinstance(value, list | tuple):
        return [poisoned(each, text, but, key) for each in value]
    return text if isinstance(value, str) and key not in but else value


def everything_opened(tab):
    tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    expect(tab.locator(".figures:not(:has(*))")).to_have_count(0)
    tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


@pytest.mark.parametrize("text", [EVIL, LONG], ids=["markup", "long"])
@pytest.mark.parametrize("number", [6, 151])
def test_hostile_texts_stay_texts(show, small, number, text):
    document = poisoned(rich(small), text)
    if number > 6:
        records = list(itertools.islice(itertools.cycle(document["recommendations"]), number))
        document = document | {"recommendations": copy.deepcopy(records)}
    tab = show(document)
    everything_opened(tab)
    tab.wait_for_timeout(50)
    assert tab.evaluate("window.hit") is None
    assert tab.locator("img, script[src], main svg svg, [onload], [onerror]").count() == 0
    assert tab.locator("pre").first.text_content() == text
    assert "49" not in tab.locator("h3").first.text_content()
    assert tab.locator("h3").first.text_content() == text
    assert search(tab, text.split()[0])[:1] == [text.strip()]


@pytest.mark.parametrize("width", [1360, 390])
@pytest.mark.parametrize("text", [EVIL, LONG, None], ids=["markup", "long", "usual"])
def test_nothing_is_wider_than_the_window(show, small, text, width):
    document = rich(small)
    tab = show(document if text is None else poisoned(document, text, STEERING | FEW), width=width)
    everything_opened(tab)
    wide = """() => [...document.querySelectorAll('body *')]
      .filter((each) => !each.parentElement.closest('.scroll, pre, svg'))
      .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
      .map((each) => `${each.tagName} ${each.className}`)"""
    assert sorted(set(tab.evaluate(wide))) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_pictures_for_those_who_look(show, images, small):
    """Of the summary, of one workload, and on a telephone."""
    for scheme in ("light", "dark"):
        tab = show(rich(small), color_scheme=scheme)
        tab.screenshot(path=images / f"summary-{scheme}.png")
        tab.locator("details.workload").first.screenshot(path=images / f"workload-{scheme}.png")
    show(close_together(small)).locator("details.workload").nth(3).screenshot(path=images / "close-together.png")
    show(rich(small), width=390).screenshot(path=images / "narrow.png", full_page=True)
    assert all(
        (images / f"{name}.png").stat().st_size > 10_000 for name in ("summary-light", "workload-dark", "narrow")
    )
