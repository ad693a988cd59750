"""Tombstones: what is written is read, whatever is damaged is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.errors import CorruptIndexError
from colindex.storage.tombstones import (
    Tombstones,
    live_bits,
    read_tombstones,
    tombstones_path,
    write_tombstones,
)


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=1))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, case: tuple[int, set[int]]) -> None:
    size, deleted = case
    folder = tmp_path_factory.mktemp("index")
    written = write_tombstones(folder, "000003", 7, size, deleted)
    assert (written.name, written.deleted) == ("000003-000007", len(deleted))
    assert Tombstones.from_json(written.to_json()) == written
    found = read_tombstones(folder, written, size)
    assert found.tolist() == sorted(deleted)
    live = np.unpackbits(live_bits(found, size), bitorder="little")
    assert np.flatnonzero(live).tolist() == [number for number in range(size) if number not in deleted]


def test_any_zarr_reader_opens_them(tmp_path: Path) -> None:
    import zarr

    written = write_tombstones(tmp_path, "000001", 2, 12, [0, 3, 9])
    array = zarr.open_array(tombstones_path(tmp_path, written.name), mode="r")
    assert np.asarray(array[:]).tolist() == [0b1001, 0b10]


@pytest.mark.parametrize("size", [8, 17, 24])
def test_tombstones_of_another_segment_are_refused(tmp_path: Path, size: int) -> None:
    written = write_tombstones(tmp_path, "000001", 2, 12, [11])
    with pytest.raises(CorruptIndexError, match="000001-000002"):
        read_tombstones(tmp_path, written, size)


def test_another_count_than_the_manifests_is_refused(tmp_path: Path) -> None:
    written = write_tombstones(tmp_path, "000001", 2, 12, [0, 3])
    with pytest.raises(CorruptIndexError, match="expected 3 deleted among 12"):
        read_tombstones(tmp_path, replace(written, deleted=3), 12)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    written = write_tombstones(tmp_path, "000001", 2, 40, [0, 3, 39])
    for name in written.files:
        path = tombstones_path(tmp_path, written.name) / name
        content = path.read_bytes()
        for at in range(len(content)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            with pytest.raises(CorruptIndexError):
                read_tombstones(tmp_path, written, 40)
        path.write_bytes(content)
    assert read_tombstones(tmp_path, written, 40).tolist() == [0, 3, 39]


@pytest.mark.parametrize(
    "value", [{}, {"name": "a", "deleted": 0, "files": {}}, {"name": "a", "deleted": True, "files": {}}]
)
def test_what_is_no_tombstones_is_an_error(value: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        Tombstones.from_json(value)
