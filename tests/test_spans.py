"""Sentences lie where they should, and spans rank by MaxSim over the vectors inside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex import Document
from colindex.errors import QueryError
from colindex.sentences import sentences
from colindex.spans import checked_spans, rank_spans

# ---- sentences


def cut(text: str, title: str = "") -> list[str]:
    document = Document("a", text, title=title)
    return [document.content[start:stop] for start, stop in sentences(document)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It ran. It stopped.", ["It ran.", "It stopped."]),
        ("Dr. Ada ran 3.5 km (i.e. far). Really?", ["Dr. Ada ran 3.5 km (i.e. far).", "Really?"]),
        (
            "Smaller in controls (n = 17, p < 0.05). E. coli grew.",
            ["Smaller in controls (n = 17, p < 0.05).", "E. coli grew."],
        ),
        ("First paragraph\n\nsecond one", ["First paragraph", "second one"]),
        ("日本語です。これは二つ目。", ["日本語です。", "これは二つ目。"]),
        ("A 👩‍👩‍👧 ran. Cafe\u0301 closed.", ["A 👩‍👩‍👧 ran.", "Cafe\u0301 closed."]),
        ("<b>Bold</b> & plain. <i>More", ["<b>Bold</b> & plain.", "<i>More"]),
        ("one without an end", ["one without an end"]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_a_text_is_cut_into_its_sentences(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_the_title_is_a_span_of_its_own() -> None:
    assert cut("It ran. Fast.", title="A title without a stop") == ["A title without a stop", "It ran.", "Fast."]
    assert cut("", title="Alone") == ["Alone"]


@given(text=st.text(st.characters(), max_size=80), title=st.text(max_size=10))
def test_spans_are_disjoint_and_leave_out_white_space_only(text: str, title: str) -> None:
    document = Document("a", text, title=title)
    edges = [0, *(edge for span in sentences(document) for edge in span), len(document.content)]
    assert edges == sorted(edges)
    between = [document.content[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    assert not "".join(between).strip()
    assert all(start < stop for start, stop in sentences(document))


# ---- ranking


def by_definition(
    similarities: NDArray[np.float32], stored: list[int], tokens: list[tuple[int, int]], span: tuple[int, int]
) -> float:
    inside = {
        vector
        for vector, (start, stop) in zip(stored, tokens, strict=True)
        if set(range(start, stop)) & set(range(*span))
    }
    if not inside:
        return -np.inf
    return float(sum(max(row[vector] for vector in inside) for row in similarities.astype(np.float64)))


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int]]:
    """Source tokens, some without a place, and the stored vector of each: pooled in any way."""
    tokens, at = [], 0
    for _ in range(draw(st.integers(1, 20))):
        at += draw(st.integers(0, 2))
        length = draw(st.integers(0, 4))
        tokens.append((at, at + length) if length else (0, 0))
        at += length
    groups = draw(st.lists(st.integers(0, 7), min_size=len(tokens), max_size=len(tokens)))
    return tokens, np.unique(groups, return_inverse=True)[1].tolist()


@given(
    document=documents(), cuts=st.lists(st.integers(0, 80), min_size=2, max_size=8, unique=True), seed=st.integers(0, 9)
)
def test_a_span_scores_maxsim_over_the_vectors_inside(
    document: tuple[list[tuple[int, int]], list[int]], cuts: list[int], seed: int
) -> None:
    tokens, stored = document
    spans = list(zip(sorted(cuts)[:-1], sorted(cuts)[1:], strict=True))
    similarities = np.random.default_rng(seed).standard_normal((3, max(stored) + 1)).astype(np.float32)
    ranked = rank_spans(similarities, np.array(stored, np.int32), np.array(tokens, np.int32), spans)
    assert sorted((span.start, span.stop) for span in ranked) == spans
    for span in ranked:
        expected = by_definition(similarities, stored, tokens, (span.start, span.stop))
        assert span.score == pytest.approx(expected, abs=1e-5)
    assert [span.score for span in ranked] == sorted((span.score for span in ranked), reverse=True)


def test_one_span_of_everything_scores_as_the_document() -> None:
    similarities = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    tokens = np.array([[at, at + 1] for at in range(6)], np.int32)
    (span,) = rank_spans(similarities, np.arange(6, dtype=np.int32), tokens, [(0, 6)])
    assert span.score == pytest.approx(float(similarities.max(axis=1).sum()))


def test_ties_keep_their_order_and_empty_spans_come_last() -> None:
    tokens = np.array([[0, 3], [4, 7], [8, 11]], np.int32)
    similarities = np.array([[1, 2, 2]], np.float32)
    spans = [(20, 30), (8, 11), (4, 7), (0, 3)]
    ranked = rank_spans(similarities, np.arange(3, dtype=np.int32), tokens, spans)
    assert [(span.start, span.score) for span in ranked] == [(8, 2), (4, 2), (0, 1), (20, -np.inf)]


@pytest.mark.parametrize("wrong", [(3, 3), (4, 2), (-1, 2), (0, 11)])
def test_spans_outside_the_text_are_refused(wrong: tuple[int, int]) -> None:
    assert checked_spans([(0, 10)], 10) == [(0, 10)]
    with pytest.raises(QueryError, match="spans"):
        checked_spans([(0, 2), wrong], 10)
