"""Plain arrays and entries: read without zarr, readable by any zarr, and damage found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from colindex.storage.entries import EntryReader, EntryWriter
from colindex.storage.errors import CorruptIndexError
from colindex.storage.plain import PlainWriter, read_arrays, read_plain, write_arrays, write_plain


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64", "bool", ">i4"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4), (2, 0, 3), (1, 2, 3)])
def test_arrays_come_back_and_zarr_reads_them(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    array = np.asarray(array)
    files = write_arrays(tmp_path / "group", {"values": array}, {"bits": 2})
    arrays, attributes = read_arrays(tmp_path / "group", files)
    np.testing.assert_array_equal(arrays["values"], array)
    assert attributes == {"bits": 2}
    np.testing.assert_array_equal(read_arrays(tmp_path / "group")[0]["values"], array)
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "group", mode="r")["values"][...], array)  # type: ignore[index]


def test_a_group_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    write_arrays(tmp_path / "group", {"old": np.ones(3)}, {})
    write_arrays(tmp_path / "group", {"new": np.ones(3)}, {})
    assert read_arrays(tmp_path / "group")[0].keys() == {"new"}


def test_damaged_groups_are_found_with_and_without_a_manifest(tmp_path: Path) -> None:
    files = write_arrays(tmp_path / "group", {"values": np.arange(10)}, {"bits": 2})
    for name in files:
        file = tmp_path / "group" / name
        content = file.read_bytes()
        for position in range(0, len(content), 3):
            file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            with pytest.raises(CorruptIndexError):
                read_arrays(tmp_path / "group", files)
            if name == "values/c/0":
                with pytest.raises(CorruptIndexError, match="crc32c"):
                    read_arrays(tmp_path / "group")
        file.unlink()
        with pytest.raises(CorruptIndexError):
            read_arrays(tmp_path / "group", files)
        file.write_bytes(content)
    with pytest.raises(CorruptIndexError, match="named by the manifest"):
        read_plain(tmp_path / "group" / "values", {})


@pytest.mark.parametrize("pieces", [[], [b""], [b"abcd", b"", b"efghijkl"]])
def test_a_plain_array_can_be_written_in_pieces(tmp_path: Path, pieces: list[bytes]) -> None:
    writer = PlainWriter(tmp_path / "pieces", np.uint32)
    for piece in pieces:
        writer.write(piece)
    written = writer.finish()
    whole = write_plain(tmp_path / "whole", np.frombuffer(b"".join(pieces), np.uint32))
    assert written == whole
    assert read_plain(tmp_path / "pieces", written).tobytes() == b"".join(pieces)


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_entries_come_back(tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("entries")
    writer = EntryWriter(folder)
    for payload in payloads:
        writer.append(payload)
    writer.finish()
    reader = EntryReader(folder, len(payloads))
    assert reader.read_many(range(len(payloads))) == payloads
    places = {each: [at for at, other in enumerate(payloads) if other == each] for each in [*payloads, b"not there"]}
    assert reader.find_each([*payloads, *payloads, b"not there"]) == places
    with pytest.raises(IndexError):
        reader.read(len(payloads))
