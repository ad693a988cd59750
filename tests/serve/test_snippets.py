"""Snippets: the window holds the best sentence, and pieces put together are the text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from colindex import Document
from colindex.match import Match
from colindex.serve.snippets import WINDOW, beginning, snippet
from tests.words import WordEncoder

QUERY = "amber kelp"


def match_of(document: Document, query: str = QUERY) -> Match:
    """As an index without quantization would give it."""
    encoder = WordEncoder()
    asked, stored = encoder.encode_query(query), encoder.encode_documents([document])
    return Match(
        id=document.id,
        score=0.0,
        query=query,
        query_tokens=tuple(query.split()),
        document=document,
        similarities=(asked @ stored.vectors.astype(np.float32).T).astype(np.float32),
        exact=None,
        stored=np.arange(len(stored.vectors), dtype=np.int32),
        token_ids=stored.token_ids,
        spans=stored.spans,
    )


def test_the_best_sentence_and_its_words_are_marked() -> None:
    document = Document("a", "Nothing is here. Amber and kelp are! Nor here.")
    shown = snippet(match_of(document), None)
    assert [(piece.text, piece.match) for piece in shown.pieces if piece.best] == [
        ("Amber", True),
        (" and ", False),
        ("kelp", True),
        (" are!", False),
    ]
    assert shown.span == (17, 36)
    assert not shown.title_is_best


def test_the_sentence_of_the_search_goes_first() -> None:
    document = Document("a", "Nothing is here. Amber and kelp are!")
    shown = snippet(match_of(document), (0, 16))
    assert "".join(piece.text for piece in shown.pieces if piece.best) == "Nothing is here."


def test_a_title_may_be_the_best() -> None:
    shown = snippet(match_of(Document("a", "Nothing is here.", title="Amber kelp")), None)
    assert (shown.title_is_best, shown.span) == (True, (0, 10))
    assert "".join(piece.text for piece in shown.pieces) == "Nothing is here."


def test_a_far_sentence_is_shown_with_what_stands_around_it() -> None:
    document = Document("a", "Word after word. " * 15 + "Amber and kelp are! " + "Word after word. " * 60)
    shown = "".join(piece.text for piece in snippet(match_of(document), None).pieces)
    assert "word. Amber and kelp are! Word" in shown
    assert shown.startswith("… ") and shown.endswith(" …")
    assert len(shown) <= WINDOW + 4


def test_what_has_no_places_shows_its_beginning() -> None:
    document = Document("a", "Amber. " * 100, title="Kelp")
    shown = snippet(replace(match_of(document), spans=None), None)
    assert shown == beginning(document)
    assert "".join(piece.text for piece in shown.pieces).startswith("Amber. Amber.")
    assert not any(piece.best or piece.match for piece in shown.pieces)


words = st.sampled_from(["amber", "kelp", "dune", "x" * 500, "😀", "a\u0301", "<b>", ".", "!", "\n\n"])


@given(st.lists(words, max_size=120), st.sampled_from(["", "kelp title"]))
def test_pieces_put_together_are_the_text(parts: list[str], title: str) -> None:
    document = Document("a", " ".join(parts), title=title)
    shown = snippet(match_of(document), None)
    whole = "".join(piece.text for piece in shown.pieces)
    inner = whole.removeprefix("… ").removesuffix(" …")
    assert inner in document.text
    assert len(inner) <= WINDOW
    assert all(piece.text for piece in shown.pieces)
    if shown.span and not shown.title_is_best:
        marked = "".join(piece.text for piece in shown.pieces if piece.best)
        assert document.content[slice(*shown.span)].startswith(marked)
        assert marked
