"""Matches on a terminal: readable without colours, and nothing steers it."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from colindex.views.figures import decimal
from colindex.views.terminal import comparison_view, match_view
from tests.views.matches import HOSTILE, made_match, vector_match


def printed(view: RenderableType, width: int = 100, colours: bool = False) -> str:
    out = io.StringIO()
    settings = {"force_terminal": True, "color_system": "truecolor"} if colours else {}
    Console(file=out, width=width, highlight=False, emoji=False, markup=False, **settings).print(view)  # type: ignore[arg-type]
    return out.getvalue()


def test_contributions_are_numbered_in_the_text_without_colours() -> None:
    match = made_match("one two three four five", "a b c")
    text = printed(match_view(match))
    assert "\x1b" not in text
    digits = dict(zip("123", "¹²³", strict=True))
    for part in match.contributions:
        (token,) = match.texts(part.stored)
        assert re.search(rf"{token}[¹²³·]*{digits[str(part.query_token + 1)]}", text)
        assert decimal(part.score) in text
    assert f"score {decimal(match.score)}" in text


def test_colours_follow_the_strength_and_underline_what_contributes() -> None:
    match = made_match("one two three four five six", "a")
    (part,) = match.contributions
    (token,) = match.texts(part.stored)
    assert re.search(
        rf"\x1b\[1;4;38;2;29;19;0;48;2;245;173;51m{token}\x1b\[0m", printed(match_view(match), colours=True)
    )


@pytest.mark.parametrize("width", [60, 100, 200])
def test_no_text_steers_the_terminal(width: int) -> None:
    match = replace(made_match(HOSTILE, HOSTILE, title=HOSTILE, id_=HOSTILE), query=HOSTILE)
    for view in (match_view(match), comparison_view(match.compare(match, (HOSTILE, HOSTILE)))):
        text = printed(view, width)
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "[bold]rich[/bold] :smile:" in " ".join(text.split())
        assert max(cell_len(row.rstrip()) for row in text.splitlines()) <= width


def test_a_pooled_vector_is_marked_wherever_it_came_from() -> None:
    match = made_match("one two three four", "a", pool=4)
    text = printed(match_view(match), 140)
    assert "one¹ two¹ three¹ four¹" in text
    assert "4 tokens, pooled into 1 stored vector\n" in text
    assert "pooled: one · two · three · four" in text


def test_of_a_long_text_the_surroundings_of_what_contributes() -> None:
    match = made_match(" ".join(f"w{number}" for number in range(2_000)), "a b")
    text = printed(match_view(match))
    assert re.search(r"\[… [\d,]+ characters …\]", text)
    assert len(text) < 4_000
    for part in match.contributions:
        (token,) = match.texts(part.stored)
        assert re.search(rf"{token}[¹²]", text)


def test_nothing_is_left_out_of_a_count() -> None:
    content = " ".join(f"w{number}" for number in range(2_000))
    text = " ".join(printed(match_view(made_match(content, "a b")), 10_000).split("─ \n")[-1].split())
    left_out = sum(int(count.replace(",", "")) for count in re.findall(r"\[… ([\d,]+) characters …\]", text))
    shown = re.findall(r"\bw\d+\b", re.sub("[¹²·]", "", text.split("similarity of a token")[0]))
    assert abs(left_out + sum(len(word) + 1 for word in shown) - len(content)) < 120  # the table repeats a few words


def test_vectors_and_windows_and_nothing() -> None:
    assert re.search(r"#\d¹", printed(match_view(vector_match(queries=1))))
    assert "beyond the encoder's window" in printed(match_view(made_match("one two three", window=1)))
    assert "no stored vector" in printed(match_view(made_match("")))


def test_a_comparison_shows_both_and_the_differences() -> None:
    first, second = made_match("one two three", "a"), made_match("four five", "a", id_="doc-2", seed=3)
    text = printed(comparison_view(first.compare(second)))
    assert "doc-1: " in text
    assert "doc-2: " in text
    difference = second.score - first.score
    assert f"{'+' if difference > 0 else '−'}{abs(difference):.3f}" in text


def test_a_token_that_others_cut_is_numbered_once_at_its_end() -> None:
    match = made_match("abcdef", "a")
    spans, stored = np.array([[0, 6], [2, 4]], np.int32), np.array([0, 1], np.int32)
    similarities = np.array([[0.9, 0.1]], np.float32)
    cut = replace(match, similarities=similarities, score=0.9, exact=None, stored=stored, spans=spans)
    assert "\nabcdef¹\n" in re.sub(" +\n", "\n", printed(match_view(cut)))
