"""The pages: no text becomes markup, every character is shown, and nothing is loaded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colindex.match import Match
from colindex.views.characters import block
from colindex.views.figures import decimal
from colindex.views.html import comparison_page, match_fragment, match_page
from tests.views.matches import HOSTILE, made_match, vector_match

VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[tuple[str, str]] = set()
        self.areas: list[str] = []
        self.tokens: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes |= {(tag, name) for name in found}
        if "cx-text" in found.get("class", "").split():
            self.areas.append("")
        if "cx-t" in found.get("class", "").split():
            self.tokens.append(("", found))
        if tag not in VOID:
            self._open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        classes = [found.get("class", "").split() for _, found in self._open]
        if any("cx-text" in names for names in classes):
            self.areas[-1] += data
        if any("cx-t" in names for names in classes):
            self.tokens[-1] = (self.tokens[-1][0] + data, self.tokens[-1][1])
        if self._open and self._open[-1][0] in ("script", "style"):
            getattr(self, f"{self._open[-1][0]}s").append(data)


PLAIN = "amber basin " * 12


def hostile_match() -> Match:
    hostile = made_match(HOSTILE, HOSTILE, title=HOSTILE, id_=HOSTILE)
    return replace(hostile, query=HOSTILE)


def test_no_element_or_attribute_comes_from_a_text() -> None:
    plain = Page(match_page(made_match(PLAIN, "one two", title="Title", id_="plain")))
    hostile = Page(match_page(hostile_match()))
    assert set(hostile.tags) == set(plain.tags)
    assert hostile.attributes == plain.attributes
    assert hostile.scripts == plain.scripts
    assert hostile.styles == plain.styles
    assert hostile.tags.count("script") == 1
    counted = ("html", "head", "body", "style", "h2", "section", "table")
    assert [hostile.tags.count(tag) for tag in counted] == [plain.tags.count(tag) for tag in counted]


def test_no_element_of_a_comparison_comes_from_a_text() -> None:
    plain, hostile = made_match(PLAIN, "one two", title="Title"), hostile_match()
    names = (HOSTILE, HOSTILE)
    expected = Page(comparison_page(plain.compare(made_match(PLAIN, "one two", title="T", seed=1))))
    found = Page(comparison_page(hostile.compare(hostile, names)))
    assert (set(found.tags), found.attributes) == (set(expected.tags), expected.attributes)
    assert found.areas == [block(hostile.document.content)] * 2


def test_attributes_and_styles_hold_no_text() -> None:
    page = match_page(replace(made_match("SECRET " * 20, "SECRET", id_="SECRET"), query="SECRET"))
    assert "SECRET" in page
    assert "SECRET" not in "".join(re.findall(r"<[^>]*>", page))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.text(max_size=20), st.integers(1, 3), st.one_of(st.none(), st.integers(1, 5)))
def test_the_text_area_is_the_document(text: str, title: str, pool: int, window: int | None) -> None:
    match = made_match(text, title=title, pool=pool, window=window)
    page = Page(match_page(match))
    assert "".join(page.areas) == block(match.document.content)


def test_texts_without_controls_come_back_as_they_are() -> None:
    text = "Zażółć gęślą\n\n  jaźń\r\nתיבה 你好 😀 e\u0301 <b>&amp;"
    assert Page(match_page(made_match(text))).areas == [text]


@pytest.mark.parametrize("pool", [1, 3])
def test_every_contributing_token_is_highlighted_at_its_span(pool: int) -> None:
    match = made_match("one two three four five six seven eight nine ten", "a b c", title="A title", pool=pool)
    page = Page(match_page(match))
    shown = [(text, found) for text, found in page.tokens if "cx-hit" in found["class"]]
    assert match.spans is not None
    expected = {
        stored: {match.document.content[start:stop] for start, stop in match.spans[match.sources(stored)].tolist()}
        for stored in {part.stored for part in match.contributions}
    }
    found = {stored: {text for text, token in shown if token["data-v"] == str(stored)} for stored in expected}
    assert found == expected
    assert len(shown) == sum(len(texts) for texts in expected.values())
    for part in match.contributions:
        numbered = {text for text, token in shown if str(part.query_token + 1) in token["data-n"].split()}
        assert numbered == expected[part.stored]


def test_the_sum_and_the_exact_sum_are_shown() -> None:
    match = made_match("one two three four", "a b c")
    page = match_page(match)
    chips = re.findall(r'class="cx-chip-value">([^<]+)<', page)
    assert chips == [decimal(part.score) for part in match.contributions]
    assert sum(float(value.replace("−", "-")) for value in chips) == pytest.approx(match.score, abs=0.0005 * len(chips))
    assert f'<span class="cx-total">= {decimal(match.score)}</span>' in page
    assert match.exact_score is not None
    assert f"{decimal(match.exact_score)} before quantization" in page
    assert (
        "before quantization" not in match_page(replace(match, exact=None)).split("<script>")[0].split("</style>")[-1]
    )


def test_what_another_vector_would_have_matched_exactly_is_marked() -> None:
    match = made_match("one two", "a")
    exact = match.similarities[:, ::-1].copy()
    assert "another vector" in match_page(replace(match, exact=exact))
    assert "another vector" not in match_page(replace(match, exact=match.similarities))


def test_the_script_gets_the_similarities_as_numbers() -> None:
    match = made_match("one two three", "a b")
    (found,) = re.findall(r'data-similarities="([^"]*)"', match_page(match))
    assert np.array(json.loads(found)) / 1000 == pytest.approx(match.similarities, abs=0.0005)


@pytest.mark.parametrize("match", [hostile_match(), vector_match()], ids=["text", "vectors"])
def test_a_page_loads_nothing_and_runs_one_script(match: Match) -> None:
    page = match_page(match)
    parsed = Page(page)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "a"} & set(parsed.tags)
    assert not {name for _, name in parsed.attributes} & {"src", "href", "srcset", "action", "data", "background"}
    assert not {name for _, name in parsed.attributes if name.startswith("on")}
    (script,) = parsed.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    ours = script + "".join(parsed.styles)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|innerHTML|eval\(", ours)


def test_the_style_is_one_rule_for_the_view_in_dark_and_light() -> None:
    (style,) = Page(match_fragment(made_match("one"))).styles
    bare = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    depth, outside = 0, ""
    for character in bare:
        depth += (character == "{") - (character == "}")
        outside += character if depth == 0 else ""
        assert depth >= 0
    assert depth == 0
    assert outside.replace("}", "").strip() == ":is(.colindex-match, #colindex-match)"
    assert "@media (prefers-color-scheme: dark)" in style
    assert {'body[data-jp-theme-light="false"] &', 'body[data-jp-theme-light="true"] &'} <= set(
        re.findall(r'body\[data-jp-theme-light="\w+"\] &', style)
    )
    light, dark = (
        re.findall(rf"--(?:ink|paper): [^;]+;[^}}]*color-scheme: {name};", style) for name in ("light", "dark")
    )
    assert light
    assert dark


def test_equal_matches_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        made_match(PLAIN, title="Title").to_html(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes().startswith(b"<!DOCTYPE html>\n")


def test_a_file_holds_any_text(tmp_path: Path) -> None:
    hostile_match().to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_bytes().decode("utf-8")
    assert Page(text).areas == [block(hostile_match().document.content)]


def test_a_notebook_gets_the_fragment() -> None:
    match = made_match(PLAIN)
    fragment = match._repr_html_()
    assert fragment.lstrip().startswith('<div class="colindex-match"')
    assert "<html" not in fragment
    assert fragment in match_page(match)
    assert match.compare(match)._repr_html_().lstrip().startswith('<div class="colindex-match"')


def test_vectors_without_a_text_go_by_their_positions() -> None:
    page = Page(match_page(vector_match(queries=2, vectors=4)))
    assert [text for text, _ in page.tokens] == ["#0", "#1", "#2", "#3"]
    assert not page.areas


def test_a_text_without_spans_is_shown_beside_the_positions() -> None:
    match = replace(made_match("one two three"), spans=None)
    page = Page(match_page(match))
    assert page.areas == ["one two three"]
    assert [text for text, _ in page.tokens] == ["#0", "#1", "#2"]


def test_what_was_not_indexed_is_said() -> None:
    page = match_page(made_match("one two three four five", window=2))
    assert '<span class="cx-rest"> three four five</span>' in page
    assert "The last 16 characters lie beyond" in page


def test_a_document_without_vectors_is_a_page_too() -> None:
    page = match_page(made_match("", "a b"))
    assert "no stored vector" in page
    assert "−∞" in page


def test_pages_of_long_texts_and_queries_are_bounded_and_say_what_is_left_out() -> None:
    long = made_match("word " * 6_000, " ".join(f"q{number}" for number in range(100)))
    page = match_page(long)
    assert len(page) < 1_500_000
    assert "48 of 6,000 stored vectors" in page
    assert "the 64 of 100 query tokens that add most" in page
    assert "+ 36 more" in page
    assert "the 1,000 strongest of 6,000 vectors" in page
    (kept,) = re.findall(r'data-kept="([^"]*)"', page)
    assert len(json.loads(kept)) == 1_000
    assert {part.stored for part in long.contributions} <= set(json.loads(kept))


def _colours(style: str, scheme: str) -> dict[str, tuple[float, ...]]:
    """The colours of a scheme, the same by the system's setting and by a notebook's, and the strongest highlight on paper."""
    blocks = [found for found in re.findall(r"--ink:[^}]*?color-scheme: \w+;", style) if f"scheme: {scheme};" in found]
    named = [dict(re.findall(r"--([\w-]+): ([^;]+);", block_)) for block_ in blocks]
    assert len(named) == 2
    assert named[0] == named[1]
    found: dict[str, tuple[float, ...]] = {
        name: _rgb(value) for name, value in named[0].items() if value.startswith("#")
    }
    most = float(named[0]["most"])
    hit = [float(part) for part in named[0]["hit"].split()]
    found["highlight"] = tuple(most * a + (1 - most) * b for a, b in zip(hit, found["paper"], strict=True))
    return found


def _rgb(value: str) -> tuple[float, ...]:
    digits = value[1:] if len(value) == 7 else "".join(digit * 2 for digit in value[1:])
    return tuple(int(digits[at : at + 2], 16) for at in (0, 2, 4))


def _contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """As WCAG defines it."""

    def luminance(colour: tuple[float, ...]) -> float:
        parts = [part / 255 for part in colour]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_dark_and_light(scheme: str) -> None:
    (style,) = Page(match_fragment(made_match("one"))).styles
    colour = _colours(style, scheme)
    pairs = [("ink", "paper"), ("ink", "highlight"), ("ink", "panel"), ("soft", "paper"), ("soft", "panel")]
    pairs += [("strong-ink", "strong"), ("better", "paper"), ("worse", "paper"), ("worse", "panel")]
    contrasts = {pair: _contrast(colour[pair[0]], colour[pair[1]]) for pair in pairs}
    assert {pair: contrast for pair, contrast in contrasts.items() if contrast < 4.5} == {}
