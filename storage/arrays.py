"""What zarr is asked to do; the only module that imports it, and only when an array is described or a column is read.

1. Describe: the `zarr.json` of groups, of plain arrays (`plain.py`), of records (`shards.py`) and of columns. zarr itself
   writes them, into memory, so that what they say is what zarr means.
2. Columns: cold one- or two-dimensional arrays, in shards of 2^20 rows (unless told otherwise) and inner chunks of 8192 rows with
   codecs `bytes, zstd, crc32c`. zarr encodes a shard at a time into memory and `directory.py` writes it (zarr's own store never
   calls fsync). `verify` reads them with zarr; `columns.py` reads the rows of one document, much sooner.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from colindex.storage.checksums import FileSum
from colindex.storage.directory import corrupt, write_new_file

__all__ = [
    "CHUNK_ROWS",
    "METADATA",
    "SHARD_ROWS",
    "ColumnWriter",
    "group_metadata",
    "plain_metadata",
    "read_column",
    "records_metadata",
]

METADATA = "zarr.json"
SHARD_ROWS, CHUNK_ROWS = 1 << 20, 1 << 13
_ZSTD_LEVEL = 3

# What zarr and its codecs raise for bytes that are not what they should be.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """The `zarr.json` of a group."""
    import zarr

    store: dict[str, Any] = {}
    zarr.create_group(store=zarr.storage.MemoryStore(store), attributes=dict(attributes))
    return bytes(store[METADATA].to_bytes())


@functools.lru_cache(maxsize=64)  # zarr takes milliseconds, and segments differ little
def plain_metadata(shape: tuple[int, ...], dtype: DTypeLike) -> bytes:
    """The `zarr.json` of an array of one chunk, codecs `bytes, crc32c`."""
    from zarr.codecs import Crc32cCodec

    chunks = tuple(max(1, length) for length in shape)
    return _described(shape=shape, dtype=dtype, chunks=chunks, compressors=[Crc32cCodec()])


def records_metadata(rows: int, record_bytes: int, chunk_rows: int, shard_rows: int) -> bytes:
    """The `zarr.json` of rows of bytes in shards of uncompressed inner chunks, index with CRC-32C at the end."""
    return _described(
        shape=(rows, record_bytes),
        dtype="uint8",
        chunks=(chunk_rows, record_bytes),
        shards=(shard_rows, record_bytes),
        compressors=None,
    )


class ColumnWriter:
    """Appends rows to a cold array; holds one shard at most.

    Args:
        folder: the array's folder.
        dtype: of the values.
        width: values in a row; None for an array of one dimension.
        shard_rows: rows of a shard, a multiple of 8192.
        compressed: whether zstd is worth its time.
    """

    def __init__(
        self,
        folder: Path,
        dtype: DTypeLike,
        width: int | None = None,
        *,
        shard_rows: int = SHARD_ROWS,
        compressed: bool = True,
    ) -> None:
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._shard_rows, self._compressed = shard_rows, compressed
        self._tail = () if width is None else (width,)
        self._pending: list[NDArray[Any]] = []
        self._rows = self._waiting = 0
        self._sums: dict[str, FileSum] = {}

    def append(self, values: NDArray[Any]) -> None:
        """Append rows of the dtype and width given at the start."""
        while len(values):
            part = values[: self._shard_rows - self._waiting]
            self._pending.append(np.array(part, self._dtype))
            self._waiting += len(part)
            values = values[len(part) :]
            if self._waiting == self._shard_rows:
                self._write_shard()

    def finish(self) -> dict[str, FileSum]:
        """End the array and describe it; not durable before `fsync_tree`."""
        if self._waiting:
            self._write_shard()
        metadata = _described(shape=(self._rows, *self._tail), dtype=self._dtype, **self._layout())
        self._sums[METADATA] = write_new_file(self._folder / METADATA, metadata)
        return self._sums

    def _write_shard(self) -> None:
        import zarr

        values = np.concatenate(self._pending)
        store: dict[str, Any] = {}
        array = zarr.create_array(
            store=zarr.storage.MemoryStore(store), shape=values.shape, dtype=self._dtype, **self._layout()
        )
        array[:] = values
        first = "/".join(["c", "0", *("0" for _ in self._tail)])
        name = "/".join(["c", str(self._rows // self._shard_rows), *("0" for _ in self._tail)])
        self._sums[name] = write_new_file(self._folder / name, store[first].to_bytes())
        self._rows += self._waiting
        self._pending, self._waiting = [], 0

    def _layout(self) -> dict[str, Any]:
        from zarr.codecs import Crc32cCodec, ZstdCodec

        return {
            "shards": (self._shard_rows, *self._tail),
            "chunks": (CHUNK_ROWS, *self._tail),
            "compressors": [*([ZstdCodec(level=_ZSTD_LEVEL)] if self._compressed else []), Crc32cCodec()],
            "filters": None,
            "fill_value": 0,
            "config": {"write_empty_chunks": True},
        }


def read_column(folder: Path, start: int, stop: int) -> NDArray[Any]:
    """Rows `start` to `stop` of a column.

    Raises:
        CorruptIndexError: a file is missing, or the bytes are not those that were written.
    """
    import zarr

    try:
        array = zarr.open_array(folder, mode="r", zarr_format=3)
        rows = np.asarray(array[start:stop])
    except _DAMAGE as error:
        raise corrupt(folder, f"rows {start:,} to {stop:,}", f"{type(error).__name__}: {error}") from error
    if len(rows) != stop - start:
        raise corrupt(folder, f"{stop - start:,} rows from {start:,}", f"{len(rows):,}")
    return rows


def _described(shape: tuple[int, ...], dtype: DTypeLike, **layout: Any) -> bytes:
    """The `zarr.json` that zarr writes for such an array."""
    import zarr

    store: dict[str, Any] = {}
    layout = {"filters": None, "fill_value": 0, "config": {"write_empty_chunks": True}} | layout
    zarr.create_array(store=zarr.storage.MemoryStore(store), shape=shape, dtype=np.dtype(dtype), **layout)
    return bytes(store[METADATA].to_bytes())
