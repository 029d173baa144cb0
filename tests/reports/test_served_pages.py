"""What ``headroom serve`` shows, in a real browser: links, search, filters, sorting, colours, small screens."""

import gzip
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import headroom.demo
from headroom.serving.pages import Pages, Sources
from headroom.serving.server import Server
from profiles.schema import Identity
from profiles.sqlite import StoreReader, StoreWriter
from recommender.inputs.recording import read_recording
from reports import apis_page

PATHS = ("/", "/apis", "/apis/5m", "/plan", "/history")
TOKEN = "a-token-of-many-letters"
EVIL = "/\"'><img src=x onerror=window.hit=1></script><script>window.hit=1</script>&lt;{{7*7}}\u202eabc\x1b[31m"
ROWS = "[...document.querySelectorAll('table.apis tbody tr')].filter((row) => row.checkVisibility())"
#: What is cut off, or makes the page itself wider than the screen.
WIDE = """() => [...document.querySelectorAll('body *')].filter((each) => !each.closest('svg, .scroll, pre')
  && each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML.slice(0, 80))
  .concat(document.documentElement.scrollWidth > innerWidth ? ['the page'] : [])"""


@contextmanager
def served(store, history, token=None):
    with Server(("127.0.0.1", 0), token) as server:
        server.pages = Pages(Sources(store, "balanced", None, history), 1e9)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """What was recorded, and calls of a client over gRPC whose path is an attack; two reports are remembered."""
    made = tmp_path_factory.mktemp("served") / "recorded.db"
    made.write_bytes(gzip.decompress((Path(headroom.demo.__file__).parent / "recording.db.gz").read_bytes()))
    with StoreReader(made) as reader:
        number, window = list(reader.windows())[-1]
        rows = [[row for at, row in each if at == number] for each in (reader.traffic(), reader.usage())]
    own = replace(rows[0][0], role="client", protocol="grpc", method="POST", route=EVIL, status=0)
    caller = Identity("local", "shop", "Deployment", "caller<b>", "main", "/caller-1")
    calls = [replace(own, identity=caller), replace(own, identity=caller, status=14)]
    with_calls = [*rows[0], *calls], [*rows[1], replace(rows[1][0], identity=caller)]
    writer = StoreWriter(made)
    writer.write(replace(window, start_unix_seconds=window.start_unix_seconds + 1), *with_calls)
    writer.close()
    for policy in ("balanced", "safe"):
        command = [sys.executable, "-m", "headroom", "report", "--store", made, "--policy", policy, "--since", "last"]
        subprocess.run([*command, "--out", made.with_name("r.json")], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def site(store):
    with served(store, store.with_name("recorded.db.reports")) as address:
        yield address


@pytest.fixture(scope="module")
def document(store):
    recording = read_recording(store)
    return apis_page.apis_document(recording, recording.histories)


@pytest.fixture
def show(browser, site):
    """Opens a page; nothing may go wrong in it, and nobody else may be asked for anything."""
    contexts, problems = [], []

    def opened(path, width=1360, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda asked: problems.append(asked.url) if not asked.url.startswith(site) else None)
        assert tab.goto(site + path).status == 200
        return tab

    opened.problems = problems
    yield opened
    for context in contexts:
        context.close()
    assert [each for each in problems if "404" not in each] == []


def cells(tab, column):
    return tab.evaluate(f"{ROWS}.map((row) => row.cells[{column}].textContent.trim())")


def routes_of(document):
    return [each | {"name": workload["name"]} for workload in document["workloads"] for each in workload["routes"]]


def search(tab, text):
    tab.fill("#search", text)
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return cells(tab, 4)


def test_links_lead_from_page_to_page_and_back(show):
    tab = show("/")
    names = tab.locator("nav a").all_text_contents()
    assert names == ["Sizes", "APIs", "Capacity", "History", "JSON"]
    for name, said in zip(names[:4], ("headroom", "APIs", "No capacity review", "What was advised"), strict=True):
        tab.click(f"nav >> text={name}")
        assert tab.text_content("h1").strip().startswith(said)
        assert tab.locator("nav a").all_text_contents() == names
    tab.click("nav >> text=JSON")
    assert json.loads(tab.text_content("pre"))["recommendations"]


def test_it_is_said_which_page_this_is(show):
    """To who sees, and to who hears it."""
    for path in ("/apis", "/history", "/apis/5m"):
        assert show(path).locator(f'[aria-current="page"][href="{path}"]').count() == 1, path


def test_a_page_asks_for_nothing_that_is_not_there(show):
    """A browser asks for an icon, once: it stands in the console of everybody who looks for faults."""
    show("/").wait_for_timeout(200)
    assert show.problems == []


def test_routes_stand_there_as_the_document_has_them(show, document):
    tab = show("/apis")
    routes = routes_of(document)
    assert len(routes) >= 8
    for column, key in ((0, "name"), (1, "role"), (2, "protocol"), (3, "method")):
        assert cells(tab, column) == [each[key] for each in routes]
    statuses = [" ".join(f"{name} × {count:,}" for name, count in each["statuses"].items()) for each in routes]
    assert [" ".join(each.split()) for each in cells(tab, 5)] == statuses
    assert tab.locator("main svg").count() == len({each["name"] for each in routes if each["role"] == "server"})


def test_a_path_that_is_an_attack_is_text(show, document):
    tab = show("/apis")
    (found,) = [each for each in cells(tab, 4) if "onerror" in each]
    assert (found[:40], tab.evaluate("window.hit")) == (EVIL[:40], None)
    assert tab.locator("img, td script").count() == 0
    assert search(tab, "<script>") == [found]


def test_routes_are_found_by_path_protocol_workload_and_side(show, document):
    tab, routes = show("/apis"), routes_of(document)
    assert search(tab, "  /PRICE get") == ["/price/{id}"]
    assert tab.text_content("#shown") == f"1 of {len(routes)} shown"
    assert search(tab, "no such path") == []
    assert len(search(tab, "")) == len(routes)
    for place, key, value in ((2, "protocol", "gRPC"), (3, "role", "client"), (1, "name", "host/checkout/checkout")):
        select = tab.locator(".tools select").nth(place - 1)
        assert value in select.locator("option").all_text_contents()
        select.select_option(label=value)
        found = [each["method"] for each in routes if each[key] == value]
        assert found
        assert cells(tab, 3) == found
        select.select_option("")
    tab.locator(".tools select").nth(0).select_option(label="host/checkout/checkout")
    tab.locator(".tools select").nth(2).select_option(label="client")
    assert cells(tab, 4) == []
    assert len(cells(show("/apis"), 4)) == len(routes)


@pytest.mark.parametrize(
    ("column", "key"),
    [(0, "name"), (6, "requests"), (7, "requests_per_second"), (8, "error_share"), (11, "p50_seconds"),
     (12, "p95_seconds"), (13, "first_byte_seconds")],
)  # fmt: skip
def test_routes_are_sorted_both_ways(show, document, column, key):
    tab = show("/apis")
    head = tab.locator("table.apis th").nth(column)
    known = [each[key] for each in routes_of(document) if each[key] is not None]
    for way in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == way
        shown = tab.evaluate(
            f"{ROWS}.map((row) => row.cells[{column}].querySelector('data')?.value ?? row.cells[{column}].textContent)"
        )
        shown = [each.strip() if key == "name" else float(each) for each in shown if each != "–"]
        assert shown == sorted(known, reverse=way == "descending")


def test_a_workload_is_reached_from_its_route(show, document):
    tab = show("/apis")
    tab.locator("table.apis a", has_text="host/leaky/leaky").click()
    place = [each["name"] for each in document["workloads"]].index("host/leaky/leaky")
    assert tab.url.endswith(f"#a{place}")
    assert tab.locator(f"#a{place}").is_visible()
    top = tab.locator(f"#a{place}").evaluate("each => each.closest('details').getBoundingClientRect().top")
    assert -1 <= top < 850, "whose section it is cannot be seen"


def test_periods_lead_to_the_same_page_over_less_time(show, store):
    tab = show("/apis")
    periods = tab.locator("header p a")
    assert periods.all_text_contents() == ["all", "last 5m", "last 15m", "last 1h", "last 6h", "last 24h"]
    tab.click("text=last 5m")
    assert tab.url.endswith("/apis/5m")
    assert [int(each.replace(",", "")) for each in cells(tab, 6)] == [
        each["requests"] for each in routes_of(apis_page.apis_document(*both(read_recording(store, 300.0))))
    ]
    periods.first.click()
    assert tab.url.endswith("/apis")


def both(recording):
    return recording, recording.histories


def test_without_nodes_the_plan_says_why_there_is_none_and_what_to_do(show):
    text = show("/plan").inner_text("main")
    assert "no node to plan with" in text
    assert "headroom" in text or "--prices" in text


def test_history_shows_both_reports_the_newest_first_and_tells_them_apart(show):
    tab = show("/history")
    sections = tab.locator("section.report")
    assert sections.count() == 2
    assert "other advice: " in sections.nth(0).inner_text()
    assert "other advice" not in sections.nth(1).inner_text()
    sections.nth(0).locator("summary").click()
    assert sections.nth(0).locator("tbody tr").count() >= 4
    titles = sections.locator("h2").all_text_contents()
    assert titles[0] != titles[1], "of one recording under two policies: which is which?"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(show, serious, scheme):
    for path in ("/", "/apis", "/plan", "/history"):
        tab = show(path, color_scheme=scheme, bypass_csp=True)
        tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert serious(tab) == [], path


@pytest.mark.parametrize("width", [1360, 390])
@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_wider_than_the_screen_and_tables_scroll_by_themselves(show, images, path, width):
    tab = show(path, width)
    tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    tab.screenshot(path=images / f"serve{path.replace('/', '-').rstrip('-')}-{width}.png", full_page=True)
    assert tab.evaluate(WIDE) == []
    for table in tab.locator("table").all():
        region = table.locator("xpath=ancestor::*[contains(@class, 'scroll')]")
        if table.evaluate("each => each.getBoundingClientRect().right > innerWidth"):
            assert region.get_attribute("tabindex") == "0"
            assert region.evaluate("each => { each.scrollLeft = 50; return each.scrollLeft; }") > 0


def test_a_link_with_a_token_in_a_chat_lets_in(browser, store):
    """A click on another site's page: browsers send no strict cookie with what comes of that."""
    history = store.with_name("recorded.db.reports")
    with served(store, history, TOKEN) as guarded, served(store, history) as chat:
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(chat.replace("127.0.0.1", "localhost") + "/plan")
        link = f"{guarded}/apis?token={TOKEN}"
        tab.evaluate(
            "(link) => document.body.append(Object.assign(document.createElement('a'), { href: link, id: 'go' }))", link
        )
        tab.evaluate("document.getElementById('go').click()")
        tab.wait_for_url(f"{guarded}/**")
        tab.wait_for_timeout(200)
        title, address = tab.title(), tab.url
        context.close()
        assert (title, address) == ("headroom: APIs", f"{guarded}/apis")


def test_the_page_of_a_file_is_the_served_one_without_links(run_apis, store):
    text = run_apis("--html", store.with_name("a.html"))
    assert "<nav" not in text
    assert "/apis/5m" not in text
    assert "host/checkout/checkout" in text


def test_the_page_of_one_workload_holds_no_other(run_apis, store):
    text = run_apis("--html", store.with_name("b.html"), "--workload", "leaky")
    assert "host/leaky/leaky" in text
    assert "host/checkout/checkout" not in text


@pytest.fixture
def run_apis(store):
    def run(form, path, *more):
        command = [sys.executable, "-m", "headroom", "apis", "--store", store, form, path, *more]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (f"{path}\n", "")
        return path.read_text()

    return run
