"""Indexes of 32 bits keep the vectors themselves: scores and hits are those of exact MaxSim, through every change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex import BuildParams, Document, Index, SearchParams, TokenBatch
from tests.oracles import exact_maxsim
from tests.words import WordEncoder, batches

EVERYTHING = SearchParams(exact=True)
CANDIDATES = SearchParams(exact=False, nprobe=64, candidates=512, margin=float("inf"))


def queries(dim: int, count: int = 12) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal((tokens, dim)).astype(np.float32) for tokens in range(1, count + 1)]


def stored(held: list[TokenBatch]) -> dict[str, NDArray[np.float32]]:
    """The vectors of each document."""
    return {
        document: np.asarray(batch.vectors[begin:end], np.float32)
        for batch in held
        for document, begin, end in zip(batch.ids, batch.offsets[:-1], batch.offsets[1:], strict=True)
    }


def best(query: NDArray[np.float32], documents: dict[str, NDArray[np.float32]], k: int) -> list[tuple[str, float]]:
    """The k best documents by definition."""
    vectors = np.concatenate([*documents.values()])
    offsets = np.cumsum([0, *map(len, documents.values())])
    scores = exact_maxsim(query, vectors, offsets)
    order = np.argsort(-scores, kind="stable")[:k]
    names = list(documents)
    return [(names[place], float(scores[place])) for place in order]


def check(index: Index, documents: dict[str, NDArray[np.float32]], params: SearchParams) -> None:
    for query in queries(index.manifest.input_dim):
        hits = index.search_vectors(query, 10, params=params)
        expected = best(query, documents, 10)
        assert [hit.id for hit in hits] == [name for name, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("params", [EVERYTHING, CANDIDATES], ids=["exact", "candidates"])
@pytest.mark.parametrize("dim", [8, 16, 40])
def test_hits_are_those_of_exact_maxsim(tmp_path: Path, dim: int, params: SearchParams) -> None:
    held = batches(150, dim=dim)
    report = Index.build_from_vectors(tmp_path / "index", held, BuildParams(bits=32, segment_tokens=300))
    assert report.documents == 150
    with Index.open(tmp_path / "index") as index:
        assert index.manifest.codec == "plain"
        check(index, stored(held), params)


def test_vectors_that_are_not_quite_of_unit_length_stay_as_they_are(tmp_path: Path) -> None:
    """Codes bring vectors back to unit length where all had it but for what float16 loses."""
    rng = np.random.default_rng(0)
    held = [
        TokenBatch(
            ids=batch.ids,
            vectors=np.asarray(batch.vectors * rng.uniform(0.995, 1.005, (len(batch.vectors), 1)), np.float32),
            offsets=batch.offsets,
        )
        for batch in batches(100)
    ]
    Index.build_from_vectors(tmp_path / "index", held, BuildParams(bits=32))
    with Index.open(tmp_path / "index") as index:
        check(index, stored(held), EVERYTHING)


@pytest.mark.parametrize("params", [EVERYTHING, CANDIDATES], ids=["exact", "candidates"])
def test_changes_and_compaction_lose_nothing(tmp_path: Path, params: SearchParams) -> None:
    held, more = batches(80), batches(40, seed=1)
    more = [
        TokenBatch(ids=tuple(f"w{name}" for name in batch.ids), vectors=batch.vectors, offsets=batch.offsets)
        for batch in more
    ]
    Index.build_from_vectors(tmp_path / "index", held, BuildParams(bits=32))
    documents = stored([*held, *more])
    with Index.open(tmp_path / "index") as index:
        index.add_vectors(more)
        index.delete(["v3", "wv7"])
        del documents["v3"], documents["wv7"]
        check(index, documents, params)
        index.compact()
        check(index, documents, params)
        index.compact(retrain=True)
        check(index, documents, params)


def test_a_match_adds_up_to_its_hit(tmp_path: Path) -> None:
    texts = [Document(id=str(number), text=f"amber cedar title{number % 3} rare{number}") for number in range(30)]
    Index.build(tmp_path / "index", texts, WordEncoder(), BuildParams(bits=32))
    with Index.open(tmp_path / "index", encoder=WordEncoder()) as index:
        (hit, *_) = index.search("amber rare7", 3)
        match = index.inspect("amber rare7", hit.id)
        assert hit.id == "7"
        assert match.score == hit.score
