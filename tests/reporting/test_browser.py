"""Pages as people meet them: in a browser, by mouse and keyboard, light and dark, narrow and wide, printed."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from reporting.made import HOSTILE

pytestmark = pytest.mark.slow
#: A small encoder that was compared, a deep decoder, and a model whose layers are of two kinds.
SHOWN = ("encoder", "decoder", "encoder-decoder")


def panel(opened):
    return " ".join(opened.page.locator("#why").inner_text().split())


@pytest.mark.parametrize("name", SHOWN)
def test_a_page_opens_without_a_complaint_or_a_request(reported, opened, name):
    made = reported(name)
    start = time.monotonic()
    shown = opened(made.page)
    shown.page.locator("table.heat button").last.wait_for()
    print(f"{name}: {made.page.stat().st_size / 1000:.0f} KB, opened in {time.monotonic() - start:.2f} s")
    assert shown.said == []
    assert shown.asked == [made.page.as_uri()]
    assert shown.page.title().startswith(made.plan.architecture)


@pytest.fixture
def beacon():
    """The address of a server on this machine, and what was asked of it."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


def test_the_policy_lets_nothing_out_and_complaints_would_be_noticed(reported, opened, beacon, tmp_path):
    address, asked = beacon
    path = tmp_path / "changed.html"
    added = f'<img src="{address}image"><link rel="stylesheet" href="{address}style"><script src="{address}script">'
    text = reported("encoder").text.replace("</main>", f"{added}</script></main>")
    path.write_text(text, encoding="utf-8")
    shown = opened(path)
    shown.page.wait_for_load_state("networkidle")
    assert sum("Content Security Policy" in line for line in shown.said) == 3
    assert len(shown.asked) > 1
    assert asked == []
    path.write_text(text.replace("http-equiv", "name"), encoding="utf-8")
    shown = opened(path)
    shown.page.wait_for_load_state("networkidle")
    assert sorted(asked) == ["/image", "/script", "/style"]


@pytest.mark.parametrize("name", SHOWN)
def test_a_click_tells_why(reported, opened, name):
    made = reported(name)
    shown = opened(made.page)
    decision = made.plan.decisions[1]
    row = shown.page.locator("table.heat").first.locator("tbody tr").nth(1)
    row.locator("td button").first.click()
    assert decision.reason in panel(shown)
    assert f"{decision.unit}." in panel(shown)
    assert f"{decision.parameters:,}" in panel(shown)
    row.locator("th button").click()
    assert panel(shown).startswith(f"{decision.unit}: {decision.method} of size")
    assert shown.page.locator("[aria-current]").count() == 1


@pytest.mark.parametrize("name", SHOWN)
def test_the_keyboard_does_the_same(reported, opened, name):
    made = reported(name)
    shown = opened(made.page)
    keyboard, first = shown.page.keyboard, shown.page.locator("table.heat button").first
    tables = shown.page.locator("table.heat")
    assert shown.page.locator("table.heat button[tabindex='0']").count() == tables.count()
    first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        keyboard.press(key)
    decision = made.plan.decisions[2]
    assert decision.reason in panel(shown)
    assert panel(shown).startswith(f"{decision.unit}.")
    before = panel(shown)
    for key in ("End", "ArrowRight", "Home", "PageUp", "ArrowUp", "Space"):
        keyboard.press(key)
    assert panel(shown).startswith(f"{made.plan.decisions[0].unit}: ")
    assert panel(shown) != before
    keyboard.press("Tab")  # out of the table, whose cells are one stop
    assert not shown.page.evaluate("document.activeElement.closest('table.heat[data-group=\"0\"]')")


def test_colour_can_show_scores(reported, opened):
    shown = opened(reported("encoder").page)
    cell = shown.page.locator("table.heat tbody tr").first.locator("td button").nth(4)
    colour = "element => getComputedStyle(element).backgroundColor"
    sizes = cell.evaluate(colour)
    last = shown.page.locator("table.heat tbody tr").last.locator("td button").nth(4)
    assert last.evaluate(colour) != sizes
    before = [each.evaluate(colour) for each in shown.page.locator("table.heat tbody td button").all()]
    shown.page.get_by_label("the module’s own score").check()
    assert [each.evaluate(colour) for each in shown.page.locator("table.heat tbody td button").all()] != before


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out(reported, opened, name, scheme):
    """At the widths of a telephone and of a desk."""
    for width in (390, 1600):
        shown = opened(reported(name).page, scheme=scheme, width=width)
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        dark = shown.page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")
        shown.page.locator("table.heat button").first.click()
        assert shown.said == []


@pytest.mark.parametrize(
    ("name", "scheme", "width"),
    [
        ("encoder", "light", 390),
        ("encoder", "dark", 1600),
        ("decoder", "dark", 390),
        ("encoder-decoder", "light", 1600),
    ],
)
def test_axe_finds_nothing_serious(reported, opened, name, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    shown = opened(reported(name).page, scheme=scheme, width=width)
    shown.page.locator("table.heat button").first.click()
    # Of the deep one it would take ten seconds to look at every cell's contrast, whose colours are the same.
    rules = {"color-contrast": {"enabled": name != "decoder"}}
    found = Axe().run(shown.page, options={"resultTypes": ["violations"], "rules": rules}).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []


def test_axe_would_notice(reported, opened, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    path = tmp_path / "faint.html"
    path.write_text(reported("encoder").text.replace(' lang="en"', ""), encoding="utf-8")
    options = {"runOnly": {"type": "rule", "values": ["html-has-lang"]}}
    found = Axe().run(opened(path).page, options=options).response["violations"]
    assert "html-has-lang" in {each["id"] for each in found}


@pytest.mark.parametrize("name", SHOWN)
def test_it_prints_with_every_reason(reported, opened, name):
    made = reported(name)
    shown = opened(made.page, scheme="dark")
    assert shown.page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    shown.page.emulate_media(media="print")
    assert shown.page.locator("#why").is_hidden()
    text = shown.page.locator("body").inner_text()
    for decision in made.plan.decisions:
        assert decision.unit in text
        assert decision.reason in text
    assert shown.page.locator("svg").first.is_visible()


def test_a_name_with_markup_in_it_does_nothing(reported, opened, tmp_path):
    """Wherever a name can come from, it is text."""
    shown = opened(reported("hostile").page)
    assert shown.said == []
    assert shown.page.locator("#injected").count() == 0
    assert HOSTILE in shown.page.title()
    assert shown.page.evaluate("JSON.parse(document.getElementById('run').textContent).architecture") == HOSTILE
    for button in shown.page.locator("table.heat button").all()[:3]:
        button.click()
    assert shown.page.locator("#injected").count() == 0
    assert HOSTILE in panel(shown)
