"""Cells: every centroid in one, near its own; the same on every machine; and what probing finds in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.cells import FEW, in_cells
from colindex.kernels import chosen
from colindex.kernels.reference.probe import scored
from colindex.kernels.tables import CellTable, ProbeTable, probe_table
from tests.kernels.bodies import Body, each_body, each_native
from tests.kernels.records import unit_rows

COUNT, DIM, WORDS = 4500, 32, 60


def centroids_of_words(count: int = COUNT, dim: int = DIM) -> NDArray[np.float32]:
    """As token-aware clustering leaves them: those of one word side by side, and near each other."""
    words = unit_rows(WORDS, dim, 3).repeat(-(-count // WORDS), axis=0)[:count]
    mixed = words + unit_rows(count, dim, 4) * 0.8
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


def table(count: int = COUNT) -> ProbeTable:
    spreads = np.random.default_rng(5).uniform(0.1, 0.5, count).astype(np.float32)
    return in_cells(centroids_of_words(count), spreads)


def cells_of(probes: ProbeTable) -> CellTable:
    assert probes.cells is not None
    return probes.cells


def queries() -> NDArray[np.float32]:
    near = centroids_of_words()[::97] + unit_rows(-(-COUNT // 97), DIM, 6) * 0.5
    return np.asarray(near / np.linalg.norm(near, axis=1, keepdims=True), np.float32)


def plain(probes: ProbeTable) -> ProbeTable:
    """The same centroids without cells, in the order of their numbers."""
    places = np.argsort(cells_of(probes).numbers)
    values = (probes.rows()[places].astype(np.float32) - 128) * probes.steps[places, None]
    return probe_table(values, probes.spreads[places])


def test_every_centroid_stands_at_one_place_with_its_own_values() -> None:
    centroids, spreads = centroids_of_words(), np.arange(COUNT, dtype=np.float32)
    probes = in_cells(centroids, spreads)
    cells = cells_of(probes)
    assert sorted(cells.numbers) == list(range(COUNT))
    assert (cells.sizes > 0).all()
    assert cells.starts.tolist() == [0, *np.cumsum(cells.sizes)[:-1].tolist()]
    assert cells.sizes.sum() == COUNT == probes.searched
    alone = probe_table(centroids, spreads)
    assert np.array_equal(probes.rows(), alone.rows()[cells.numbers])
    assert np.array_equal(probes.steps, alone.steps[cells.numbers])
    assert np.array_equal(probes.spreads, spreads[cells.numbers])
    for start, size in zip(cells.starts, cells.sizes, strict=True):
        assert (np.diff(cells.numbers[start : start + size]) > 0).all(), "rising inside a cell"


def test_cells_hold_what_is_near() -> None:
    """Far less spread than all centroids; and the spread says how far the vectors under them lie from the mean."""
    centroids, spreads = centroids_of_words(), np.full(COUNT, 0.25, np.float32)
    cells = cells_of(in_cells(centroids, spreads))
    members = np.split(centroids[cells.numbers], cells.starts[1:])
    inside = [np.square(part - part.mean(axis=0)).sum(axis=1).mean() for part in members]
    around = np.square(centroids - centroids.mean(axis=0)).sum(axis=1).mean()
    assert np.mean(inside) < 0.6 * around
    np.testing.assert_allclose(cells.centres.spreads, np.sqrt(np.array(inside) + 0.25**2), rtol=0.02)
    steps, rows = cells.centres.steps[:, None], cells.centres.rows()
    assert np.abs((rows - 128.0) * steps - [part.mean(axis=0) for part in members]).max() < 0.01


@pytest.mark.parametrize("count", [1, 100, FEW - 1])
def test_few_centroids_have_no_cells(count: int) -> None:
    assert in_cells(unit_rows(count, 8), np.ones(count, np.float32)).cells is None


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_centroids_may_be_equal(value: float) -> None:
    probes = in_cells(np.full((FEW, 8), value, np.float16), np.zeros(FEW, np.float32))
    assert cells_of(probes).sizes.tolist() == [FEW]


def test_the_room_of_cells_counts() -> None:
    probes = table()
    cells = cells_of(probes)
    without = probes._replace(cells=None).nbytes
    assert probes.nbytes == without + cells.centres.nbytes + 4 * COUNT + 2 * 4 * len(cells.sizes)


@each_body
def test_any_body_finds_the_same_cells(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = table()
    monkeypatch.setattr(chosen, "nearest_cells", body.nearest_cells)
    found = table()
    for mine, its in ((found, expected), (cells_of(found).centres, cells_of(expected).centres)):
        assert [mine.values.tobytes(), mine.spreads.tobytes()] == [its.values.tobytes(), its.spreads.tobytes()]
    assert cells_of(found).starts.tobytes() == cells_of(expected).starts.tobytes()


@each_body
@pytest.mark.parametrize("dim", [1, 8, 13, 128, 1024])
@given(rows=st.integers(0, 30), centres=st.integers(1, 70), extreme=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_the_nearest_centre_is_the_nearest(
    body: Body, dim: int, rows: int, centres: int, extreme: bool, seed: int
) -> None:
    """Also at the largest values, where sums are the largest; the lowest number of equally near ones."""
    rng = np.random.default_rng(seed)
    choices = [-127, 127] if extreme else [-2, -1, 0, 1, 2]
    own, its = (rng.choice(choices, (count, dim)).astype(np.int8) for count in (rows, centres))
    distances = np.square(own[:, None].astype(np.int64) - its[None]).sum(axis=2)
    assert body.nearest_cells(own, its).tolist() == distances.argmin(axis=1).tolist()


@each_native
def test_rows_of_another_kind_are_refused(body: Body) -> None:
    rows = np.ones((3, 8), np.int8)
    for wrong in ((rows, rows[:, :4]), (rows, rows[:0]), (rows.astype(np.int16), rows), (rows[0], rows)):
        with pytest.raises(ValueError, match="native kernel"):
            body.nearest_cells(*wrong)


@each_body
@pytest.mark.parametrize("nprobe", [1, 4, 16, 50])
def test_the_best_centroids_are_in_the_best_cells(body: Body, nprobe: int) -> None:
    probes, query = table(), queries()
    assert scored(probes, nprobe) < COUNT
    ids, scores = body.top_centroids(query, probes, nprobe)
    expected, their_scores = body.top_centroids(query, plain(probes), nprobe)
    found = np.mean([len(np.intersect1d(mine, its)) for mine, its in zip(ids, expected, strict=True)]) / nprobe
    assert found > 0.93
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == nprobe for row in ids.tolist())
    assert (scores[:, 0] <= their_scores[:, 0] + 1e-6).all()


@each_body
@pytest.mark.parametrize("nprobe", [80, 1000, COUNT, 2 * COUNT])
def test_many_probes_look_at_all_centroids(body: Body, nprobe: int) -> None:
    probes, query = table(), queries()[:5]
    assert scored(probes, nprobe) == COUNT
    found, expected = body.top_centroids(query, probes, nprobe), body.top_centroids(query, plain(probes), nprobe)
    assert found[0].shape == (5, min(nprobe, COUNT))
    assert np.abs(found[1] - expected[1]).max() < 1e-6
    assert (found[0] == expected[0]).mean() > 0.99  # scores that differ by rounding alone may change places


@each_native
@pytest.mark.parametrize("tokens", [1, 2, 13, 64, 65, 130])
@pytest.mark.parametrize("known", [COUNT, 4100])
def test_each_instruction_set_finds_what_the_reference_does(body: Body, tokens: int, known: int) -> None:
    probes = table().first(known)
    query = np.resize(queries(), (tokens, DIM))
    reference, found = Body(None).top_centroids(query, probes, 16), body.top_centroids(query, probes, 16)
    same = [len(np.intersect1d(mine, its)) for mine, its in zip(found[0], reference[0], strict=True)]
    assert np.mean(same) / 16 > 0.97  # a cell at the border may be another one, for rounding
    generic = Body("generic").top_centroids(query, probes, 16)
    assert [part.tobytes() for part in found] == [part.tobytes() for part in generic]


@each_body
@pytest.mark.parametrize("nprobe", [4, 1000])
@pytest.mark.parametrize("known", [1, 17, 3000, COUNT - 1])
def test_the_first_centroids_are_searched_alone(body: Body, known: int, nprobe: int) -> None:
    probes, query = table(), queries()[:6]
    first = probes.first(known)
    assert first.searched == known
    ids, scores = body.top_centroids(query, first, nprobe)
    assert ids.shape == (6, min(nprobe, known))
    assert ids.max() < known
    expected = body.top_centroids(query, plain(probes).first(known), nprobe)
    same = [len(np.intersect1d(mine, its)) for mine, its in zip(ids, expected[0], strict=True)]
    assert np.mean(same) / ids.shape[1] > 0.9
    assert (scores <= expected[1] + 1e-6).all()


@each_native
def test_cells_of_another_size_are_refused(body: Body) -> None:
    probes, query = table(), queries()[:2]
    cells = cells_of(probes)
    wrong = [
        cells._replace(numbers=cells.numbers[:-1]),
        cells._replace(sizes=cells.sizes[:-1]),
        cells._replace(starts=cells.starts[:-1]),
        cells._replace(known=COUNT + 1),
        cells._replace(centres=probes._replace(cells=None)),
    ]
    for each in wrong:
        with pytest.raises(ValueError, match="native kernel: cells"):
            body.top_centroids(query, probes._replace(cells=each), 4)
