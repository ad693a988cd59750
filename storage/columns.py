"""Reading a few rows of a cold column without zarr: looking at one document must not wait for a library.

A column is what `arrays.ColumnWriter` wrote: int32 rows in shards of 2^20 rows, each a file of inner chunks of 8,192 rows
(`bytes, zstd, crc32c`) and an index of them at its end.

1. Read the index of the shard, 16 bytes a chunk (offset and length, uint64) and its CRC-32C.
2. Read the chunks that hold the rows, compare their CRC-32C, decompress them, cut the rows out.

zarr reads the same bytes (`arrays.read_column`), as `verify` does; it takes some milliseconds for each document.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from colindex.storage.arrays import CHUNK_ROWS, SHARD_ROWS
from colindex.storage.checksums import crc32c
from colindex.storage.directory import corrupt, opened, read_from

__all__ = ["read_rows"]

_CRC_BYTES = 4
_INDEX_BYTES = 16 * (SHARD_ROWS // CHUNK_ROWS) + _CRC_BYTES


def read_rows(folder: Path, start: int, stop: int, width: int | None) -> NDArray[np.int32]:
    """Rows `start` to `stop` of a column, int32 [rows], or [rows, width] where it has one.

    Raises:
        CorruptIndexError: a file is missing, or the bytes are not those that were written.
    """
    parts = [np.empty((0, *_tail(width)), np.int32)]
    while start < stop:
        shard = start // SHARD_ROWS
        end = min(stop, (shard + 1) * SHARD_ROWS)
        parts += _shard_rows(folder, shard, start - shard * SHARD_ROWS, end - shard * SHARD_ROWS, width)
        start = end
    return np.concatenate(parts)


def _shard_rows(folder: Path, shard: int, start: int, stop: int, width: int | None) -> Iterator[NDArray[np.int32]]:
    path = folder.joinpath("c", str(shard), *("0" for _ in _tail(width)))
    with opened(path) as descriptor:
        size = path.stat().st_size
        index = _checked(path, read_from(descriptor, path, max(size - _INDEX_BYTES, 0), _INDEX_BYTES), "index")
        places = np.frombuffer(index, "<u8").reshape(-1, 2).tolist()
        for chunk in range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS)):
            offset, length = places[chunk]
            if offset + length > size - _INDEX_BYTES or length < _CRC_BYTES:
                raise corrupt(path, f"chunk {chunk} inside the file", f"{length:,} bytes at {offset:,}")
            packed = _checked(path, read_from(descriptor, path, offset, length), f"chunk {chunk}")
            first = chunk * CHUNK_ROWS
            yield _decompressed(path, packed, width)[max(start - first, 0) : stop - first]


def _checked(path: Path, data: bytes, what: str) -> bytes:
    """Bytes without the CRC-32C that they end with."""
    content, sum_ = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    if crc32c(content) != sum_:
        raise corrupt(path, f"CRC-32C {sum_:08x} of the {what}", f"{crc32c(content):08x}")
    return content


def _decompressed(path: Path, packed: bytes, width: int | None) -> NDArray[np.int32]:
    shape = (CHUNK_ROWS, *_tail(width))
    try:
        content = zstandard.ZstdDecompressor().decompress(packed, max_output_size=4 * int(np.prod(shape)))
        return np.frombuffer(content, "<i4").reshape(shape)
    except (zstandard.ZstdError, ValueError) as error:
        raise corrupt(path, f"a zstd frame of int32 {shape}", str(error)) from error


def _tail(width: int | None) -> tuple[int, ...]:
    return () if width is None else (width,)
