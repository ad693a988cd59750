"""Searching by sentences: each hit carries the best one, and its score is that sentence's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, SearchParams
from colindex.errors import QueryError
from colindex.passages import documents_to_split
from tests.words import WORDS, WordEncoder, batches


def story(number: int, rng: np.random.Generator) -> Document:
    """Some sentences of random words; each document has a rare one of its own in its last sentence."""
    said = [" ".join(rng.choice(WORDS, rng.integers(2, 6))).capitalize() for _ in range(rng.integers(1, 5))]
    said[-1] += f" rare{number}"
    return Document(f"doc-{number}", ". ".join(said) + ".", title="amber heading" if number % 3 else "")


@pytest.fixture(scope="module", params=[1, 2], ids=["unpooled", "pooled"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("passages") / "i"
    rng = np.random.default_rng(0)
    params = BuildParams(bits=4, segment_tokens=800, pool_factor=request.param)
    Index.build(path, [story(number, rng) for number in range(200)], WordEncoder(dim=24), params)
    return Index.open(path, encoder=WordEncoder(dim=24))


def queries(count: int = 8) -> list[str]:
    rng = np.random.default_rng(2)
    return [" ".join([*rng.choice(WORDS, 3), f"rare{rng.integers(200)}"]) for _ in range(count)]


@pytest.mark.parametrize("exact", [True, False])
def test_hits_are_the_best_documents_by_their_best_sentence(index: Index, exact: bool) -> None:
    params = SearchParams(exact=exact)
    for text in queries():
        searched = index.search(text, documents_to_split(5), params=params)
        expected = []
        for hit in searched:
            best = index.inspect(text, hit.id).ranked_spans()[0]
            expected.append((best.score, hit.id, (best.start, best.stop)))
        expected.sort(key=lambda one: -one[0])
        hits = index.search(text, 5, params=params, unit="sentence")
        assert [hit.score for hit in hits] == pytest.approx([score for score, _, _ in expected[:5]])
        known = {id_: span for _, id_, span in expected}
        assert all(hit.span == known[hit.id] for hit in hits)
        for hit in hits:
            assert hit.span is not None
            assert hit.text == hit.document.content[slice(*hit.span)]


def test_a_rare_word_leads_to_its_sentence(index: Index) -> None:
    for number in (3, 77, 199):
        hit = index.search(f"rare{number}", 1, unit="sentence")[0]
        assert hit.id == f"doc-{number}"
        merged = index.inspect(f"rare{number}", hit.id).texts(_best_stored(index, f"rare{number}", hit.id))
        assert f"rare{number}" in merged
        assert hit.text.endswith(f"rare{number}.") or any(word in hit.text for word in merged)  # merged over sentences


def _best_stored(index: Index, text: str, id_: str) -> int:
    return index.inspect(text, id_).contributions[0].stored


def test_vectors_and_stats_do_the_same(index: Index) -> None:
    text = queries(1)[0]
    hits = index.search(text, unit="sentence")
    assert index.search_vectors(index.encode_query(text), unit="sentence") == hits
    assert index.search_with_stats(text, unit="sentence")[0] == hits
    assert all(hit.span is None for hit in index.search(text))


def test_filters_hold_for_sentences_too(index: Index) -> None:
    ids = [f"doc-{number}" for number in range(0, 200, 5)]
    hits = index.search("amber basin", 50, unit="sentence", ids=ids)
    assert sorted(hit.id for hit in hits) == sorted(ids)


def test_given_spans_are_ranked_inside_a_document(index: Index) -> None:
    match = index.inspect("rare7", "doc-7")
    length = len(match.document.content)
    halves = match.ranked_spans([(0, length // 2), (length // 2, length)])
    assert halves[0].score == pytest.approx(match.score, abs=1e-5)  # the half that holds the word, or its merged vector
    assert halves[1].score <= halves[0].score
    assert match.ranked_spans([(0, length)])[0].score == pytest.approx(match.score, abs=1e-5)
    with pytest.raises(QueryError, match="spans"):
        match.ranked_spans([(0, length + 1)])


def test_documents_without_words_come_last(tmp_path: Path) -> None:
    Index.build(
        tmp_path / "i", [Document("none", " ... "), Document("empty", ""), Document("one", "Amber.")], WordEncoder()
    )
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        hits = index.search("amber", unit="sentence")
        assert [(hit.id, hit.span) for hit in hits] == [("one", (0, 6)), ("none", (1, 4)), ("empty", None)]
        assert [hit.text for hit in hits] == ["Amber.", "...", ""]


def test_what_sentences_need(tmp_path: Path, index: Index) -> None:
    with pytest.raises(QueryError, match="'document' or 'sentence'"):
        index.search("amber", unit="paragraph")  # type: ignore[arg-type]
    Index.build_from_vectors(tmp_path / "i", batches(20))
    with Index.open(tmp_path / "i") as vectors:
        with pytest.raises(QueryError, match="unit='document'"):
            vectors.search_vectors(np.ones((1, 16), np.float32), unit="sentence")
        with pytest.raises(QueryError, match="does not know where"):
            vectors.inspect(np.ones((1, 16), np.float32), "v1").ranked_spans()
