"""The page, in a real browser: what somebody sees and can do."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from colindex import Document, Index
from tests.serve.conftest import running
from tests.words import WordEncoder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here; name one in CHROMIUM"),
]
SECONDS = 20_000  # milliseconds; a page takes 0.1 s on an idle machine
PHONE = (390, 844)


@pytest.fixture(scope="module")
def url(served_path: Path) -> Iterator[str]:
    with running("serve", served_path, "--port", "0") as found:
        yield found


@pytest.fixture
def emptied(tmp_path: Path) -> Iterator[str]:
    """A server of an index that has lost its only document."""
    Index.build(tmp_path / "i", [Document("a", "amber")], WordEncoder())
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        index.delete(["a"])
    with running("serve", tmp_path / "i", "--port", "0") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def problems() -> list[str]:
    """What the browser complains of."""
    return []


@pytest.fixture
def page(browser: Browser, problems: list[str]) -> Iterator[Page]:
    yield from _page(browser, problems, (1280, 900))


@pytest.fixture
def phone(browser: Browser, problems: list[str]) -> Iterator[Page]:
    yield from _page(browser, problems, PHONE)


def _page(browser: Browser, problems: list[str], size: tuple[int, int]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    context.set_default_timeout(SECONDS)
    opened = context.new_page()
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield opened
    context.close()


def ask(page: Page, query: str) -> None:
    page.get_by_role("searchbox", name="Search").fill(query)
    page.keyboard.press("Enter")
    page.locator(".hits li").first.wait_for()


def address(base: str, **given: str) -> str:
    return f"{base}/?{urlencode(given)}"


def match_frame(page: Page) -> None:
    page.locator("#frame[data-ready]").wait_for()


def test_before_a_question_it_says_what_there_is(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    page.get_by_text("words.colindex").wait_for()
    assert "64 documents · generation 1" in page.locator("#facts").inner_text()
    assert page.get_by_role("heading", name="Search by meaning, and see why").is_visible()
    assert page.evaluate("document.activeElement.id") == "q"
    assert page.locator("#columns button").all_inner_texts() == ["id", "title", "number", "html", "a list"]
    assert problems == []


def test_a_search_shows_hits_with_their_best_sentence_and_where_time_went(
    page: Page, url: str, problems: list[str]
) -> None:
    page.goto(url)
    ask(page, "wonder stands")
    first = page.locator(".hits li").first
    assert first.locator("code").first.inner_text() == "sum."
    assert "".join(first.locator(".best").all_text_contents()) == "Wonder 😀 stands in the second!"
    assert first.locator("b.best").all_inner_texts() == ["Wonder", "stands"]
    assert re.fullmatch(r"10 hits in [\d.]+ m?s · generation 1", page.locator("#count").inner_text())
    label = page.locator("#stages").get_attribute("aria-label") or ""
    assert "encode" in label and "refine" in label
    widths = page.locator("#stages i").evaluate_all("parts => parts.map(part => part.getBoundingClientRect().width)")
    box = page.locator("#stages").bounding_box()
    assert box is not None
    assert sum(widths) == pytest.approx(box["width"], abs=12)
    assert "64 scored · blocks: " in page.locator("#work").inner_text()
    assert page.url == address(url, q="wonder stands")
    assert problems == []


def test_a_click_shows_the_match_and_back_the_hits(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    ask(page, "rare7 title0")
    page.locator(".hits h3 a").first.click()
    match_frame(page)
    assert page.url == address(url, q="rare7 title0", id="doc-7")
    dialog = page.get_by_role("dialog")
    assert "Hit 1 of 10" in dialog.inner_text()
    frame = page.frame_locator("#frame")
    assert frame.locator(".cx-chip").all_inner_texts()[0].startswith("rare7")
    page.go_back()
    dialog.wait_for(state="hidden")
    assert page.url == address(url, q="rare7 title0")
    assert page.locator(".hits li").count() == 10
    page.go_forward()
    match_frame(page)
    assert dialog.is_visible()
    page.go_back()
    dialog.wait_for(state="hidden")
    page.go_back()
    page.get_by_role("heading", name="Search by meaning, and see why").wait_for()
    assert page.get_by_role("searchbox", name="Search").input_value() == ""
    assert problems == []


def test_the_keyboard_reaches_everything(page: Page, url: str) -> None:
    page.goto(url)
    ask(page, "amber rare7")
    link = page.locator(".hits h3 a").first
    link.focus()
    page.keyboard.press("Enter")
    match_frame(page)
    page.keyboard.press("ArrowRight")
    page.get_by_text("Hit 2 of 10").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("Hit 1 of 10").wait_for()
    match_frame(page)
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.textContent") == link.inner_text()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"


def test_escape_inside_the_match_lets_go_first_and_closes_then(page: Page, url: str) -> None:
    page.goto(address(url, q="amber rare7", id="doc-7"))
    match_frame(page)
    frame = page.frame_locator("#frame")
    frame.locator(".cx-chip").first.click()
    assert frame.locator("[data-chosen]").count() == 1
    frame.locator(".cx-chip").first.press("Escape")
    assert frame.locator("[data-chosen]").count() == 0
    assert page.get_by_role("dialog").is_visible()
    frame.locator(".cx-chip").first.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.url == address(url, q="amber rare7")


def test_a_link_opens_where_it_was_copied(page: Page, url: str) -> None:
    page.goto(address(url, q="amber", where="number < 9", k="3", unit="sentence", exact="1", id="doc-2"))
    match_frame(page)
    page.get_by_role("button", name="Close").click()
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.locator(".hits li").count() == 3
    assert page.locator("#where").input_value() == "number < 9"
    assert page.locator("#changed").inner_text() == "hits 3, rank by sentence, every document"


def test_settings_are_part_of_the_question(page: Page, url: str) -> None:
    page.goto(address(url, q="amber"))
    page.locator(".hits li").first.wait_for()
    page.locator("#settings summary").click()
    page.get_by_label("Hits", exact=True).and_(page.locator("input")).fill("4")
    page.get_by_label("Rank by").select_option("sentence")
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator("#count").get_by_text(re.compile("^4 hits in")).wait_for()
    assert page.url == address(url, q="amber", k="4", unit="sentence")


def test_a_bad_filter_is_told_at_the_filter(page: Page, url: str) -> None:
    page.goto(address(url, q="amber", where="nubmer > 3"))
    error = page.locator("#where-error")
    error.get_by_text("no such column: nubmer").wait_for()
    assert page.locator("#where").get_attribute("aria-invalid") == "true"
    assert page.evaluate("document.activeElement.id") == "where"
    assert page.locator(".hits li").count() == 0
    page.locator("#where").fill("")
    page.get_by_role("button", name="number").click()
    page.keyboard.type("> 50")
    page.keyboard.press("Enter")
    page.locator(".hits li").first.wait_for()
    assert error.inner_text() == ""
    assert page.url == address(url, q="amber", where="number > 50")


def test_no_hits_is_said(page: Page, url: str) -> None:
    page.goto(address(url, q="amber", where="number > 1000"))
    page.get_by_role("heading", name="No document was found").wait_for()
    assert page.locator("#notice").get_by_text("None meets the filter").is_visible()


def test_a_server_that_has_gone_is_an_error_with_a_way_out(page: Page, url: str) -> None:
    page.goto(url)
    page.route("**/api/search", lambda route: route.abort())
    page.get_by_role("searchbox", name="Search").fill("amber")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="The server does not answer").wait_for()
    page.unroute("**/api/search")
    page.get_by_role("button", name="Try again").click()
    page.locator(".hits li").first.wait_for()
    assert not page.get_by_role("heading", name="The server does not answer").is_visible()


def test_a_question_that_is_too_long_is_an_error_without_another_try(phone: Page, url: str) -> None:
    phone.goto(address(url, q="word " * 1_700))
    phone.locator("#notice").get_by_text("8192").wait_for()
    assert phone.get_by_role("button", name="Try again").count() == 0
    ask(phone, "amber")


def test_an_index_without_documents_says_so(page: Page, emptied: str, problems: list[str]) -> None:
    page.goto(address(emptied, q="amber"))
    page.get_by_role("heading", name="No document was found").wait_for()
    assert page.locator("#notice").get_by_text("The index holds no documents").is_visible()
    assert "0 documents · generation 2" in page.locator("#facts").inner_text()
    assert problems == []


def test_while_it_waits_it_says_so(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("searchbox", name="Search").fill("slow amber")
    page.keyboard.press("Enter")
    page.locator("#results[aria-busy=true]").wait_for()
    page.locator("#results[aria-busy=false] .hits li").first.wait_for()


def test_a_later_question_wins(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("searchbox", name="Search").fill("slow rare3")
    page.keyboard.press("Enter")
    ask(page, "rare7")
    page.wait_for_timeout(1_300)  # the first would have been answered by now
    assert page.locator(".hits li code").first.inner_text() == "doc-7"


def test_a_match_of_no_document_is_an_error(page: Page, url: str) -> None:
    page.goto(address(url, q="amber", id="gone"))
    page.locator("#match-notice").get_by_text("'gone'").wait_for()
    assert not page.locator("#waiting").is_visible()


def test_a_missing_document_is_explained(page: Page, url: str) -> None:
    page.goto(address(url, q="amber", k="1"))
    page.locator("#missing summary").click()
    page.get_by_label("Its id").fill("doc-5")
    page.get_by_role("button", name="Explain").click()
    page.locator("#told").get_by_text("doc-5").wait_for()


def test_script_in_documents_stays_inert(page: Page, url: str, problems: list[str]) -> None:
    page.goto(address(url, q="wonder", where="number = -1"))
    hit = page.locator(".hits li")
    hit.wait_for()
    assert hit.locator("h3").inner_text() == "<i>wonder</i>"
    assert "<img src=x onerror=" in hit.locator(".snippet").inner_text()
    assert hit.locator("img, script, u, i").count() == 0
    hit.locator("h3 a").click()
    match_frame(page)
    frame = page.frame_locator("#frame")
    assert "<script>document.title = 'run'</script>" in frame.locator(".cx-text").inner_text()
    assert frame.locator("img, .cx-text script").count() == 0
    assert page.title() == "wonder – colindex"
    assert frame.locator("html").evaluate(
        "() => { try { return parent.document.title } catch { return 'closed' } }"
    ) == ("closed")
    assert problems == []


def test_inline_script_would_not_run(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"/nowhere.png\" onerror=\"document.title=1\">')"
    )
    page.wait_for_timeout(300)
    assert page.title() != "1"
    assert any("Content Security Policy" in problem for problem in problems)


@pytest.mark.parametrize(
    "given", [{}, {"q": "wonder stands"}, {"q": "amber", "where": "nubmer"}, {"q": "a", "id": "sum."}]
)
def test_nothing_is_wider_than_a_phone(phone: Page, url: str, given: dict[str, str]) -> None:
    phone.goto(address(url, **given))
    phone.locator("#facts b").wait_for()
    phone.locator("#results[aria-busy=false]").wait_for(state="attached")
    if "id" in given:
        match_frame(phone)
        box = phone.get_by_role("button", name="Close").bounding_box()
        assert box is not None and box["x"] + box["width"] <= PHONE[0]
        assert min(box["width"], box["height"]) >= 40
    phone.locator("#settings summary").evaluate("summary => summary.click()")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert phone.evaluate(wide) <= 0


def test_every_control_has_a_name(page: Page, url: str) -> None:
    page.goto(address(url, q="amber", id="sum."))
    match_frame(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, iframe, dialog")].filter((node) =>
            !(node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.title || node.labels?.length
              || node.textContent.trim())).map((node) => node.outerHTML)"""
    )
    assert nameless == []
