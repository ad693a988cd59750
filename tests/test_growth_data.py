"""The benchmark of growth: documents get to their places, and each size has its own truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth_data
from benchmarks.growth_data import Part, arranged, between, growth, pca, projected
from benchmarks.vectors import Vectors
from tests.growing import words
from tests.oracles import exact_maxsim


def collection(documents: int, *, seed: int) -> Vectors:
    """Documents of 0 to 5 tokens."""
    lengths = np.random.default_rng(seed).integers(0, 6, documents)
    vectors, token_ids = words(int(lengths.sum()), seed=seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Vectors(tuple(f"d{number}" for number in range(documents)), vectors.astype(np.float16), token_ids, offsets)


def by_id(docs: Vectors) -> dict[str, tuple[list[float], list[int]]]:
    ranges = zip(docs.ids, docs.offsets[:-1], docs.offsets[1:], strict=True)
    return {id_: (docs.vectors[a:b].ravel().tolist(), docs.token_ids[a:b].tolist()) for id_, a, b in ranges}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_data, "ROWS", 17)


def test_every_document_keeps_its_vectors_and_the_foreign_ones_come_first(tmp_path: Path) -> None:
    docs, foreign = collection(60, seed=0), collection(30, seed=1)
    projection = pca(docs, 8)
    every = arranged(tmp_path / "v", [Part(foreign, 10, "first-"), Part(docs)], projection)
    full = {id_: content for id_, content in by_id(projected(docs, projection)).items() if content[1]}
    others = by_id(projected(foreign, projection))
    found = by_id(every)
    assert set(every.ids[10:]) == set(full), "those without tokens are left out"
    assert {id_: found[id_] for id_ in full} == full
    assert [found[id_] for id_ in every.ids[:10]] == [others[id_.removeprefix("first-")] for id_ in every.ids[:10]]
    assert list(every.ids[10:]) != sorted(every.ids[10:], key=lambda id_: int(id_[1:])), "in random order"
    assert every.vectors.shape[1] == 8
    assert arranged(tmp_path / "again", [Part(foreign, 10, "first-"), Part(docs)], projection).ids == every.ids


def test_each_size_has_the_best_of_its_own_documents(tmp_path: Path) -> None:
    docs, queries = collection(60, seed=0), collection(8, seed=2)
    every = arranged(tmp_path / "v", [Part(docs)], pca(docs, 16))
    asked = Vectors(queries.ids[:2], queries.vectors[:8], queries.token_ids[:8], np.array([0, 3, 8]))
    of = growth(every, asked, 20, 2, 5)
    assert of.sizes == [20, (20 + len(every.ids)) // 2, len(every.ids)]
    for size in of.sizes:
        some = between(every, 0, size)
        for query, exact in zip(of.queries, of.exact[size], strict=True):
            scores = exact_maxsim(query, some.vectors.astype(np.float32), some.offsets)
            assert exact == [some.ids[number] for number in np.argsort(-scores, kind="stable")[:5]]


def test_what_lies_between_two_sizes(tmp_path: Path) -> None:
    docs = collection(40, seed=0)
    every = arranged(tmp_path / "v", [Part(docs)], pca(docs, 16))
    first, then = between(every, 0, 12), between(every, 12, len(every.ids))
    assert by_id(first) | by_id(then) == by_id(every)
    assert (first.ids + then.ids, first.offsets[0], then.offsets[0]) == (every.ids, 0, 0)
