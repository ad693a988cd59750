"""The files of the records: shards of a zarr v3 array, written and checked as bytes.

1. A shard is `shard_rows` rows of `record_bytes` bytes, in inner chunks of 4096 rows: a chunk is whole 4096-byte blocks
   however long the record is, namely `record_bytes` of them. A full shard is about 64 MiB
   (each is an open file while the index is searched).
2. Its file is its inner chunks one after the other, uncompressed, so row `i` of the shard lies at byte
   `i * record_bytes`. The last chunk of the last shard is filled up with zero bytes; chunks wholly after the last
   row are left out. Fewer than 4096 rows in all are one inner chunk and a shard of just these rows, with zero bytes behind it up
   to the end of a block: a segment of one document is not as long as one of thousands.
3. Then comes the index: for each inner chunk of a full shard, its offset and its length, two little-endian uint64
   (both 2^64 - 1 for a chunk left out), and 4 bytes of CRC-32C of that, little-endian.
4. So the whole index is known from the number of chunks. A reader compares it byte for byte once, at open, and from
   then on finds rows by arithmetic alone.

This is what the `sharding_indexed` codec of the zarr v3 specification stores with codec `bytes` inside.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colindex.storage.arrays import METADATA, records_metadata
from colindex.storage.checksums import BLOCK_BYTES, FileSum, block_checksums, crc32c
from colindex.storage.directory import NewFile, corrupt, read_exactly, write_new_file
from colindex.storage.plain import read_json

__all__ = ["CHUNK_ROWS", "RecordWriter", "ShardFile", "few_rows_bytes", "find_shards", "shard_rows"]

CHUNK_ROWS = 4096
_SHARD_BYTES = 64 << 20
_LEFT_OUT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file of records, as the searching side reads it."""

    path: Path
    blocks: int
    """4096-byte blocks of rows and padding, before the index."""
    data_bytes: int
    """`blocks * 4096`: where the index begins."""


def shard_rows(record_bytes: int) -> int:
    """Rows of a full shard: whole inner chunks, at least one, of about 64 MiB together."""
    return CHUNK_ROWS * max(1, _SHARD_BYTES // (CHUNK_ROWS * record_bytes))


class RecordWriter:
    """Appends rows; holds less than one inner chunk of them."""

    def __init__(self, folder: Path, record_bytes: int) -> None:
        self._folder, self._record_bytes = folder, record_bytes
        self._chunk_bytes = CHUNK_ROWS * record_bytes
        self._chunks_per_shard = shard_rows(record_bytes) // CHUNK_ROWS
        self._pending = bytearray()
        self._file: NewFile | None = None
        self._chunks = 0
        self._rows = 0
        self._sums: dict[str, FileSum] = {}
        self._block_checksums: list[NDArray[np.uint32]] = []

    def append(self, records: NDArray[np.uint8]) -> None:
        """Append rows, uint8 [rows, record_bytes]."""
        self._rows += len(records)
        rest = np.ascontiguousarray(records).reshape(-1).data
        while len(rest):
            room = self._chunk_bytes - len(self._pending)
            self._pending += rest[:room]
            rest = rest[room:]
            if len(self._pending) == self._chunk_bytes:
                self._write_chunk()

    def finish(self) -> tuple[dict[str, FileSum], NDArray[np.uint32]]:
        """End the array: the sums of its files and the checksum of each block. Not durable before `fsync_tree`."""
        chunk_rows = CHUNK_ROWS
        if 0 < self._rows < CHUNK_ROWS:
            chunk_rows, self._chunks_per_shard = self._rows, 1
            self._chunk_bytes = self._rows * self._record_bytes
        if self._pending:
            self._pending += bytes(_whole_blocks(self._chunk_bytes) - len(self._pending))
            self._write_chunk()
        if self._file is not None:
            self._end_shard(self._file)
        full = self._chunks_per_shard * chunk_rows
        metadata = records_metadata(self._rows, self._record_bytes, chunk_rows, full)
        self._sums[METADATA] = write_new_file(self._folder / METADATA, metadata)
        return self._sums, np.concatenate([np.empty(0, np.uint32), *self._block_checksums])

    def discard(self) -> None:
        """Let go of the file being written."""
        if self._file is not None:
            self._file.discard()

    def _write_chunk(self) -> None:
        if self._file is None:
            self._file = NewFile(self._folder / _shard_name(len(self._sums)))
            self._chunks = 0
        self._block_checksums.append(block_checksums(self._pending))
        self._file.write(self._pending)
        self._pending = bytearray()
        self._chunks += 1
        if self._chunks == self._chunks_per_shard:
            self._end_shard(self._file)

    def _end_shard(self, file: NewFile) -> None:
        file.write(_index(self._chunks, self._chunks_per_shard, self._chunk_bytes))
        self._sums[_shard_name(len(self._sums))] = file.close()
        self._file = None


def find_shards(folder: Path, rows: int, record_bytes: int, metadata_sum: FileSum) -> tuple[ShardFile, ...]:
    """The shard files of an array of records, after comparing their indexes with what they have to be.

    Raises:
        CorruptIndexError: `zarr.json` or a shard is missing or damaged, or of another shape than the manifest says.
    """
    full, chunk_rows = _stored_rows(folder / METADATA, rows, record_bytes, metadata_sum)
    return tuple(
        _checked_shard(folder / _shard_name(number), min(full, rows - start), full, chunk_rows, record_bytes)
        for number, start in enumerate(range(0, rows, full))
    )


def _checked_shard(path: Path, rows: int, full: int, chunk_rows: int, record_bytes: int) -> ShardFile:
    chunk_bytes = chunk_rows * record_bytes
    chunks = -(-rows // chunk_rows)
    expected = _index(chunks, full // chunk_rows, chunk_bytes)
    size = _whole_blocks(chunks * chunk_bytes)
    if read_exactly(path, size, len(expected)) != expected:
        raise corrupt(path, f"an index of {chunks} consecutive chunks at byte {size:,}", "other bytes")
    return ShardFile(path, size // BLOCK_BYTES, size)


def few_rows_bytes(rows: int, record_bytes: int) -> int:
    """Length of the only file of fewer rows than 4096: they, what fills the last block, and the index."""
    return _whole_blocks(rows * record_bytes) + len(_index(1, 1, rows * record_bytes))


def _whole_blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _stored_rows(path: Path, rows: int, record_bytes: int, sum_: FileSum) -> tuple[int, int]:
    """Rows of a full shard and of an inner chunk as `zarr.json` says; both have to be what this module writes, or once wrote."""
    metadata = read_json(path, sum_)
    try:
        shape, full = metadata["shape"], int(metadata["chunk_grid"]["configuration"]["chunk_shape"][0])
        inner = metadata["codecs"][0]["configuration"]["chunk_shape"]
        chunk_rows = rows if full == rows < CHUNK_ROWS else CHUNK_ROWS
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise corrupt(path, "a sharded array of records", f"something else ({error!r})") from error
    expected: Sequence[object] = [[rows, record_bytes], [chunk_rows, record_bytes], 0]
    if full <= 0 or (got := [shape, inner, full % chunk_rows]) != expected:
        raise corrupt(
            path, f"shape, inner chunk and remainder {expected}", got if full > 0 else f"shards of {full} rows"
        )
    return full, chunk_rows


@functools.lru_cache(maxsize=64)
def _index(chunks: int, chunks_per_shard: int, chunk_bytes: int) -> bytes:
    """The index of a shard whose first `chunks` inner chunks are there."""
    index = np.full((chunks_per_shard, 2), _LEFT_OUT, "<u8")
    index[:chunks, 0] = np.arange(chunks, dtype=np.uint64) * np.uint64(chunk_bytes)
    index[:chunks, 1] = chunk_bytes
    data = index.tobytes()
    return data + crc32c(data).to_bytes(4, "little")


def _shard_name(number: int) -> str:
    return f"c/{number}/0"
