"""Rows of cold columns, read without zarr, are those that zarr reads; damage in the bytes that are read is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.storage import arrays
from colindex.storage.arrays import ColumnWriter, read_column
from colindex.storage.columns import read_rows
from colindex.storage.errors import CorruptIndexError

ROWS = arrays.SHARD_ROWS + 3 * arrays.CHUNK_ROWS + 5
EDGES = sorted({0, 1, ROWS - 1, ROWS, *(at + by for at in (8192, arrays.SHARD_ROWS) for by in (-1, 0, 1))})


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[int | None, tuple[Path, np.ndarray]]:
    """A column with a width and one without, of more than one shard."""
    folder = tmp_path_factory.mktemp("columns")
    made = {}
    for width in (None, 2):
        values = np.random.default_rng(0).integers(0, 30_000, (ROWS,) if width is None else (ROWS, width), np.int32)
        column = ColumnWriter(folder / str(width), np.int32, width)
        column.append(values)
        column.finish()
        made[width] = (folder / str(width), values)
    return made


@pytest.mark.parametrize("width", [None, 2])
@given(bounds=st.lists(st.sampled_from(EDGES) | st.integers(0, ROWS), min_size=2, max_size=2).map(sorted))
def test_rows_are_those_that_were_written(
    columns: dict[int | None, tuple[Path, np.ndarray]], width: int | None, bounds: list[int]
) -> None:
    folder, values = columns[width]
    start, stop = bounds[0], min(bounds[1], bounds[0] + 20_000)
    found = read_rows(folder, start, stop, width)
    assert found.dtype == np.int32
    assert np.array_equal(found, values[start:stop])


def test_zarr_reads_the_same(columns: dict[int | None, tuple[Path, np.ndarray]]) -> None:
    for width, (folder, _) in columns.items():
        for start in (0, 8000, arrays.SHARD_ROWS - 50):
            assert np.array_equal(read_rows(folder, start, start + 400, width), read_column(folder, start, start + 400))


@pytest.mark.parametrize("place", [0, 10, -1, -5, -2000])
def test_a_flipped_bit_in_what_is_read_is_found(tmp_path: Path, place: int) -> None:
    column = ColumnWriter(tmp_path / "c", np.int32, 2)
    column.append(np.arange(600, dtype=np.int32).reshape(-1, 2))
    (name,) = [name for name in column.finish() if name.startswith("c/")]
    content = bytearray((tmp_path / "c" / name).read_bytes())
    content[place] ^= 4
    (tmp_path / "c" / name).write_bytes(content)
    with pytest.raises(CorruptIndexError, match="CRC-32C"):
        read_rows(tmp_path / "c", 3, 9, 2)


@pytest.mark.parametrize("left", [0, 100, 2051])
def test_a_file_cut_short_or_missing_is_found(tmp_path: Path, left: int) -> None:
    column = ColumnWriter(tmp_path / "c", np.int32)
    column.append(np.arange(600, dtype=np.int32))
    column.finish()
    file = tmp_path / "c" / "c" / "0"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(CorruptIndexError):
        read_rows(tmp_path / "c", 0, 5, None)
    file.unlink()
    with pytest.raises(CorruptIndexError):
        read_rows(tmp_path / "c", 0, 5, None)


def test_an_index_that_leads_outside_is_found(tmp_path: Path) -> None:
    """With the sums that it ought to have: another writer's mistake."""
    column = ColumnWriter(tmp_path / "c", np.int32)
    column.append(np.arange(600, dtype=np.int32))
    column.finish()
    file = tmp_path / "c" / "c" / "0"
    content = bytearray(file.read_bytes())
    index = bytearray(content[-2052:-4])
    for offset, length, message in ((2**63, 50, "inside the file"), (0, 2, "inside the file"), (1, 8, "CRC-32C")):
        index[:16] = offset.to_bytes(8, "little") + length.to_bytes(8, "little")
        from colindex.storage.checksums import crc32c

        file.write_bytes(content[:-2052] + index + crc32c(index).to_bytes(4, "little"))
        with pytest.raises(CorruptIndexError, match=message):
            read_rows(tmp_path / "c", 0, 5, None)
