"""Where records lie: the native body and NumPy's against a loop over the documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.storage.places import Finder, NumpyPlaces, RecordRanges, find_records
from tests.storage.bodies import needs_native

RECORD = 36

worlds = st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=5)  # tokens of each segment's documents


def offsets_of(world: list[list[int]], dtype: Any) -> list[np.ndarray[Any, Any]]:
    return [np.cumsum([0, *tokens]).astype(dtype) for tokens in world]


def finders(world: list[list[int]], dtype: Any) -> list[Finder]:
    offsets, bases = offsets_of(world, dtype), [4096 * 100 * (1 + segment) for segment in range(len(world))]
    firsts = np.cumsum([0, *map(len, world)])[:-1].tolist()
    return [find_records(offsets, bases, RECORD), NumpyPlaces(firsts, offsets, bases, RECORD)]


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@given(world=worlds, data=st.data())
def test_every_document_is_where_its_segment_has_it(dtype: Any, world: list[list[int]], data: st.DataObject) -> None:
    everywhere = []
    for segment, tokens in enumerate(world):
        at = 4096 * 100 * (1 + segment)
        for count in tokens:
            everywhere.append((at, at + count * RECORD, count))
            at += count * RECORD
    some = st.lists(st.integers(0, len(everywhere) - 1), max_size=12) if everywhere else st.just([])
    documents = data.draw(some)
    for finder in finders(world, dtype):
        starts, ends, rows = finder.find(np.array(documents, np.int64))
        assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [
            everywhere[number][:2] for number in documents
        ]
        assert rows.tolist() == np.cumsum([0, *(everywhere[number][2] for number in documents)]).tolist()


def test_rows_lie_beyond_32_bits() -> None:
    offsets = np.array([0, 2**33, 2**33 + 3], np.uint64)
    for finder in (find_records([offsets], [4096], RECORD), NumpyPlaces([0], [offsets], [4096], RECORD)):
        starts, ends, rows = finder.find(np.array([1, 0]))
        assert starts.tolist() == [4096 + 2**33 * RECORD, 4096]
        assert ends.tolist() == [4096 + (2**33 + 3) * RECORD, 4096 + 2**33 * RECORD]
        assert rows.tolist() == [0, 3, 3 + 2**33]


@pytest.mark.parametrize("documents", [[-1], [3], [0, 99, 1]])
def test_a_document_that_does_not_exist(documents: list[int]) -> None:
    for finder in finders([[1, 2], [3]], np.uint32):
        with pytest.raises(IndexError):
            finder.find(np.array(documents))


def test_a_part_begins_at_row_zero() -> None:
    ranges = RecordRanges(*finders([[2, 0, 3, 1]], np.uint32)[0].find(np.array([2, 0, 1, 3])))
    part = ranges.part(1, 4)
    assert part.rows.tolist() == [0, 2, 2, 3]
    assert part.starts.tolist() == ranges.starts[1:].tolist()
    assert part.ends.tolist() == ranges.ends[1:].tolist()
    assert ranges.part(0, 2).rows.tolist() == [0, 3, 5]


@needs_native
def test_offsets_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="uint32 or uint64"):
        find_records([np.zeros(3)], [0], RECORD)
    with pytest.raises(ValueError, match="for each segment"):
        find_records([np.zeros(3, np.uint32)], [], RECORD)
