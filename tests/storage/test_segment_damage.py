"""Damage to the files of a segment: found before it is believed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from colindex.storage.checksums import block_checksums
from colindex.storage.errors import CorruptIndexError
from colindex.storage.segments import SegmentInfo, SegmentReader, segment_path
from tests.storage.samples import RECORD_BYTES, batch, stored_records, write_segment

LENGTHS = (5, 0, 17, 3, 8)


@pytest.fixture
def info(tmp_path: Path) -> SegmentInfo:
    return write_segment(tmp_path, "000001", batch(LENGTHS))


def use(path: Path, info: SegmentInfo) -> None:
    """Open and read everything, as a search and an inspection would."""
    reader = SegmentReader(path, info)
    if block_checksums(stored_records(reader)).tolist() != reader.block_checksums.tolist():
        raise CorruptIndexError("a block without its checksum")
    for number in range(info.documents):
        reader.external_ids([number])
        reader.document(number)
        reader.inspection(number)
    assert reader.metadata is not None
    assert reader.metadata.ids() == reader.external_ids(range(info.documents))


def test_every_file_cut_short_is_damage(tmp_path: Path, info: SegmentInfo) -> None:
    for name, sum_ in info.files.items():
        file = segment_path(tmp_path, info.name) / name
        content = file.read_bytes()
        for size in (0, sum_.bytes // 2, sum_.bytes - 1):
            file.write_bytes(content[:size])
            with pytest.raises(CorruptIndexError, match=name):
                SegmentReader(tmp_path, info)
        file.unlink()
        with pytest.raises(CorruptIndexError, match=name):
            SegmentReader(tmp_path, info)
        file.write_bytes(content)
    use(tmp_path, info)


def test_a_flipped_bit_is_found_when_its_part_is_read(tmp_path: Path, info: SegmentInfo) -> None:
    """In every fifth byte of the small files and every 1009th of the records; `zarr.json` of cold parts is `verify`'s matter."""
    for name in info.files:
        if name.endswith("zarr.json") and not name.startswith(("records", "offsets", "postings/", "block")):
            continue
        if name in ("postings/zarr.json", "ids/offsets/c/0", "documents/offsets/c/0") or name.startswith("inspection"):
            continue  # read in part: see the tests below and test_verify
        file = segment_path(tmp_path, info.name) / name
        content = file.read_bytes()
        crc = 4 if name in ("ids/bytes/c/0", "documents/bytes/c/0") else 0  # read entry by entry, never to the CRC
        for position in range(0, len(content) - crc, 5 if len(content) < 1000 else 1009):
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            file.write_bytes(damaged)
            with pytest.raises(CorruptIndexError):
                use(tmp_path, info)
        file.write_bytes(content)
    use(tmp_path, info)


@pytest.mark.parametrize("part", ["ids", "documents"])
def test_a_wrong_offset_never_gives_another_entry(tmp_path: Path, info: SegmentInfo, part: str) -> None:
    file = segment_path(tmp_path, info.name) / part / "offsets" / "c" / "0"
    right = np.frombuffer(file.read_bytes()[:-4], "<u8")
    reader = SegmentReader(tmp_path, info)
    for shifted in (np.roll(right, 1), np.roll(right, -1), right[::-1], right + 1, right * 2**40):
        file.write_bytes(shifted.astype("<u8").tobytes() + bytes(4))
        for number in range(1, 4):
            with pytest.raises(CorruptIndexError):
                reader.document(number) if part == "documents" else reader.external_ids([number])


@pytest.mark.parametrize("column", ["token_ids", "spans"])
def test_damaged_inspection_columns_are_an_error(tmp_path: Path, info: SegmentInfo, column: str) -> None:
    folder = segment_path(tmp_path, info.name) / "inspection" / column
    reader = SegmentReader(tmp_path, info)
    for file in (path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json"):
        content = file.read_bytes()
        for position in range(0, len(content), 83):
            damaged = bytearray(content)
            damaged[position] ^= 0x10
            file.write_bytes(damaged)
            before = reader.inspection(0) if _survives(reader) else None
            file.write_bytes(content)
            after = reader.inspection(0)
            assert after is not None
            assert before is None or np.array_equal(getattr(before, column), getattr(after, column))
    shutil.rmtree(folder)
    with pytest.raises(CorruptIndexError):
        reader.inspection(0)


def _survives(reader: SegmentReader) -> bool:
    try:
        reader.inspection(0)
    except CorruptIndexError:
        return False
    return True


def test_a_manifest_of_another_segment_does_not_open(tmp_path: Path, info: SegmentInfo) -> None:
    with pytest.raises(CorruptIndexError):
        SegmentReader(tmp_path, replace(info, tokens=info.tokens + 1))
    with pytest.raises(CorruptIndexError):
        SegmentReader(tmp_path, replace(info, documents=info.documents + 1))
    with pytest.raises(CorruptIndexError):
        SegmentReader(tmp_path, replace(info, record_bytes=RECORD_BYTES + 1))
