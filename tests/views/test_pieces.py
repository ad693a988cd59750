"""The text in pieces, the table and the grid: whole, true to the spans, and bounded."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex import Document
from colindex.match import Match
from colindex.views.characters import block, line, screen
from colindex.views.grid import columns, query_rows, scale, shares, strongest
from colindex.views.pieces import contents, pieces, unplaced
from colindex.views.rows import rows
from tests.views.matches import HOSTILE, made_match, vector_match


@st.composite
def anything(draw: st.DrawFn) -> Match:
    """Any text, any spans: overlapping, empty, out of order, pooled in any way."""
    text, title = draw(st.text(max_size=40)), draw(st.text(max_size=10))
    document = Document("d", text, title)
    place = st.integers(0, len(document.content))
    spans = [sorted(pair) for pair in draw(st.lists(st.tuples(place, place), min_size=1, max_size=12))]
    vectors = draw(st.integers(1, len(spans)))
    rest = draw(st.lists(st.integers(0, vectors - 1), min_size=len(spans) - vectors, max_size=len(spans) - vectors))
    cell = st.floats(-1, 1, width=32)
    queries = draw(st.integers(1, 3))
    values = draw(st.lists(cell, min_size=queries * vectors, max_size=queries * vectors))
    similarities = np.array(values, np.float32).reshape(queries, vectors)
    return Match(
        id="d",
        score=float(similarities.max(axis=1).sum()),
        query="q",
        query_tokens=tuple("abc"[:queries]),
        document=document,
        similarities=similarities,
        exact=None,
        stored=np.array([*range(vectors), *rest], np.int32),
        token_ids=None,
        spans=np.array(spans, np.int32),
    )


@given(anything())
def test_each_character_is_shown_once_with_the_tokens_that_cover_it(match: Match) -> None:
    found = pieces(match)
    assert "".join(piece.text for piece in found) == match.document.content
    assert all(piece.text for piece in found)
    assert match.spans is not None
    start = 0
    for piece in found:
        for place in range(start, start + len(piece.text)):
            covering = {
                int(stored)
                for (first, stop), stored in zip(match.spans, match.stored, strict=True)
                if first <= place < stop
            }
            assert set(piece.stored) == covering
        start += len(piece.text)
        ending = {
            int(stored)
            for (first, stop), stored in zip(match.spans, match.stored, strict=True)
            if first < stop == start
        }
        assert set(piece.ending) == ending


@given(anything())
def test_the_rows_and_the_shares_add_up(match: Match) -> None:
    assert sum(row.part.score for row in rows(match)) == pytest.approx(match.score, abs=1e-5)
    total = sum(row.part.share for row in rows(match))
    assert float(shares(match).sum()) == pytest.approx(total, rel=1e-4, abs=1e-4)


def test_the_title_and_what_lies_beyond_the_window() -> None:
    match = made_match("one two three four, five.", title="The Title", window=4)
    found = pieces(match)
    assert "".join(piece.text for piece in found if piece.title) == "The Title "
    assert "".join(piece.text for piece in found if not piece.indexed) == " three four, five."


def test_signs_that_a_skip_list_drops_are_not_beyond_the_window() -> None:
    match = made_match("one two three. !?", window=3)
    assert all(piece.indexed for piece in pieces(match))


def test_tokens_without_characters_are_unplaced_and_go_by_their_names() -> None:
    match = made_match("one two three")
    assert match.spans is not None
    spans = match.spans.copy()
    spans[0] = 0
    named = replace(match, spans=spans, names=("[CLS]", "two", "three"))
    assert unplaced(named) == (0,)
    assert contents(named, 0) == ("[CLS]",)
    assert contents(replace(named, names=None), 0) == ("#0",)
    assert unplaced(vector_match()) == (0, 1, 2, 3, 4)
    assert contents(vector_match(), 3) == ("#3",)


def test_a_row_shows_its_token_in_context_and_counts_what_was_pooled() -> None:
    match = made_match("the cat and the dog", query="x", pool=5)
    (row,) = rows(match)
    assert (row.context.before, row.context.token, row.context.after) == ("", "the", " cat and the dog")
    assert row.pooled == "the ×2 · cat · and · dog"
    far = made_match("alpha " * 30 + "target " + "omega " * 30, query="x")
    similarities = np.zeros_like(far.similarities)
    similarities[0, 30] = 1
    (row,) = rows(replace(far, similarities=similarities))
    assert (row.context.token, row.pooled) == ("target", "")
    assert row.context.before == "… alpha alpha alpha "
    assert row.context.after == " omega omega omega …"


def test_exact_parts_and_differences_add_up_too() -> None:
    match = made_match("one two three four five", "a b c")
    found = [row.exact for row in rows(match) if row.exact is not None]
    assert len(found) == 3
    assert match.exact_score is not None
    assert sum(exact.score for exact in found) == pytest.approx(match.exact_score, rel=1e-6)
    assert sum(exact.difference for exact in found) == pytest.approx(match.score - match.exact_score, abs=1e-5)
    assert all(row.exact is None for row in rows(replace(match, exact=None)))


def test_nothing_to_match_has_no_rows() -> None:
    empty = made_match("")
    assert rows(empty) == ()
    assert pieces(empty) == ()
    assert scale(empty).strength(strongest(empty)).tolist() == []


@given(st.integers(1, 40), st.integers(1, 12))
def test_the_columns_hold_what_contributes_then_the_most_similar(limit: int, queries: int) -> None:
    match = made_match("word " * 30, " ".join("q" * queries))
    shown = columns(match, limit).tolist()
    assert shown == sorted(set(shown))
    assert len(shown) == min(limit, 30)
    contributing = {part.stored for part in match.contributions}
    assert len(contributing & set(shown)) == min(len(contributing), limit)
    others = [strongest(match)[stored] for stored in set(shown) - contributing]
    left_out = [strongest(match)[stored] for stored in set(range(30)) - set(shown) - contributing]
    assert not others or not left_out or min(others) >= max(left_out)


def test_the_rows_of_the_grid_are_those_that_add_most() -> None:
    match = made_match("a b c d", "q w e r t")
    scores = [part.score for part in match.contributions]
    assert query_rows(match, 9).tolist() == [0, 1, 2, 3, 4]
    assert query_rows(match, 2).tolist() == sorted(np.argsort(scores)[-2:].tolist())


def test_strengths_rise_from_nothing_to_one() -> None:
    match = made_match("word " * 50)
    strengths = scale(match).strength(match.similarities)
    assert (strengths.min(), strengths.max()) == (0, 1)
    order = match.similarities.ravel().argsort()
    assert (np.diff(strengths.ravel()[order]) >= 0).all()
    same = replace(match, similarities=np.ones_like(match.similarities))
    assert not scale(same).strength(same.similarities).any()


@given(st.text())
def test_blocks_keep_their_length_and_hold_only_what_pages_can(text: str) -> None:
    shown = block(text)
    assert len(shown) == len(text)
    kinds = {unicodedata.category(character) for character in shown if character not in "\t\n\r"}
    assert not kinds & {"Cc", "Cs"}
    assert shown.encode().decode() == shown


def test_what_steers_text_is_replaced_where_it_could_reach_further() -> None:
    assert not set(line(HOSTILE)) & set("\u202e\u2066\n\r\t\x00\x1b")
    assert all(character.isprintable() or character == "\n" for character in screen(HOSTILE))
    assert "é 你好 שלום" in line("é 你好 שלום")
