"""The benchmark of filters: what it calls right is right, and what is wrong it finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.filters import FILTERS, Filter, build, described, differing, measured, rankings, within
from benchmarks.quality import exact_top
from benchmarks.vectors import Vectors
from colindex import Index
from tests.oracles import exact_maxsim

COUNT, DIM = 600, 16


@pytest.fixture(scope="module")
def docs() -> Vectors:
    """Random documents of 0 to 3 vectors."""
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *rng.integers(0, 4, COUNT)])
    vectors = rng.standard_normal((offsets[-1], DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = tuple(f"d{number}" for number in range(COUNT))
    return Vectors(ids, vectors.astype(np.float16), rng.integers(0, 50, len(vectors), np.int32), offsets)


@pytest.fixture(scope="module")
def metadata(docs: Vectors) -> list[dict[str, Any]]:
    return described(docs)


@pytest.fixture(scope="module")
def folder(docs: Vectors, metadata: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filters") / "index"
    build(path, docs, metadata)
    return path


@pytest.fixture(scope="module")
def queries() -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(1).standard_normal((4, 3, DIM), np.float32))


def meant(filter_: Filter, docs: Vectors, metadata: Sequence[dict[str, Any]]) -> set[str]:
    return {id_ for id_, row in zip(docs.ids, metadata, strict=True) if filter_.means(row)}


def test_metadata_have_the_shares_that_their_filters_are_named_by(docs: Vectors) -> None:
    metadata = described(docs)
    assert metadata == described(docs)
    found = {each.name: len(meant(each, docs, metadata)) for each in FILTERS}
    assert found["a topic"] > 0
    assert {name: count for name, count in found.items() if name != "a topic"} == {
        "50 %": 300,
        "10 %": 60,
        "5 %": 30,
        "1 %": 6,
        "0.01 %": 1,
        "none": 0,
    }


def test_a_row_says_what_filtered_searches_did(
    folder: Path, docs: Vectors, metadata: list[dict[str, Any]], queries: list[NDArray[np.float32]]
) -> None:
    tops = [
        [docs.ids[number] for number in row]
        for row in exact_top(docs.vectors.astype(np.float32), docs.offsets, queries, COUNT)
    ]
    rows = measured(folder, queries, docs.ids, metadata, tops, checked=2)
    assert [row.filter for row in rows] == ["all", *(each.name for each in FILTERS)]
    assert {(row.checked, row.differing) for row in rows} == {(2, 0)}
    for row, each in zip(rows[1:], FILTERS, strict=True):
        allowed = meant(each, docs, metadata)
        assert (row.documents, row.refined) == (len(allowed), len(allowed))  # so few that all are refined
        assert row.recall == row.recall_exact
        assert (row.recall is None) == (not allowed)
        assert all(ms is not None and 0 < ms[0] <= ms[1] for ms in (row.kept_ms, row.new_ms, row.ids_ms))
    assert (rows[0].new_ms, rows[0].ids_ms) == (None, None)
    assert rows[-2].recall == 1  # there is one document


def test_the_expected_answers_are_those_of_maxsim(
    folder: Path, docs: Vectors, metadata: list[dict[str, Any]], queries: list[NDArray[np.float32]]
) -> None:
    allowed = meant(FILTERS[0], docs, metadata)
    with Index.open(folder) as index:
        expected = within(rankings(index, queries), allowed, 10)
    for query, answer in zip(queries, expected, strict=True):
        assert len(answer) == 10
        assert {id_ for id_, _ in answer} <= allowed
        exact = dict(zip(docs.ids, exact_maxsim(query, docs.vectors.astype(np.float32), docs.offsets), strict=True))
        assert [score for _, score in answer] == pytest.approx([exact[id_] for id_, _ in answer], abs=1)  # of two bits
        assert len({id_ for id_, _ in answer} & set(sorted(allowed, key=exact.__getitem__)[-20:])) >= 8


def test_wrong_answers_are_counted(
    folder: Path, docs: Vectors, metadata: list[dict[str, Any]], queries: list[NDArray[np.float32]]
) -> None:
    chosen = FILTERS[1]
    allowed = meant(chosen, docs, metadata)
    with Index.open(folder) as index:
        ranked = rankings(index, queries)
        assert differing(index, queries, chosen, allowed, ranked) == 0
        stranger = next(id_ for id_, _ in ranked[0] if id_ not in allowed)  # the best there is
        other = Filter("one more", f"{chosen.where} OR id = '{stranger}'", chosen.means)
        assert differing(index, queries, other, allowed, ranked) > 0
        raised = [(id_, float(np.nextafter(np.float32(score), np.float32(99)))) for id_, score in ranked[0]]
        assert differing(index, queries, chosen, allowed, [raised, *ranked[1:]]) == 1
