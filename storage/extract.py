"""The documents of a segment in pieces, as `SegmentWriter.append` takes them: to export them, or to write them anew.

1. Documents are taken in runs of some ten thousand stored vectors and a few hundred documents at most.
2. Only the blocks of records that they touch are read, and each is compared with its checksum; ids and payloads are read entry
   by entry, each with its check; inspection columns by zarr, which checks its chunks.
3. Documents that are not wanted are left out of every part.

Memory: one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from colindex.storage.arrays import METADATA, read_column
from colindex.storage.checksums import BLOCK_BYTES, block_checksums
from colindex.storage.directory import corrupt, read_exactly
from colindex.storage.plain import read_plain, within
from colindex.storage.segments import SegmentInfo
from colindex.storage.shards import ShardFile

__all__ = ["COLUMNS", "Piece", "Stored", "pieces", "stored_columns"]

COLUMNS = ("token_ids", "spans", "pool_map")
"""Inspection columns: one row a source token."""
SOURCE_OFFSETS = "inspection/source_offsets"
_PIECE_ROWS = 1 << 16
_PIECE_DOCUMENTS = 512


class Stored(Protocol):
    """The parts of a segment that documents are taken from; a `SegmentReader` has them."""

    info: SegmentInfo
    path: Path
    offsets: NDArray[Any]
    block_checksums: NDArray[np.uint32]
    shards: tuple[ShardFile, ...]

    def external_ids(self, documents: Sequence[int] | NDArray[Any]) -> list[str]:
        """The external ids of some documents."""
        ...

    def document(self, number: int) -> bytes:
        """The payload of a document."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Some documents of one segment, in order."""

    ids: Sequence[str]
    payloads: Sequence[bytes]
    records: NDArray[np.uint8]
    """uint8 [stored vectors, record bytes]."""
    offsets: NDArray[np.int64]
    """int64 [documents + 1], into the records."""
    columns: dict[str, NDArray[np.int32]]
    """Inspection columns, those that there are."""
    source_offsets: NDArray[np.int64] | None
    """int64 [documents + 1], into the columns; None where nothing was pooled."""


def stored_columns(info: SegmentInfo) -> list[str]:
    """The inspection columns that a segment has."""
    return [name for name in COLUMNS if f"inspection/{name}/{METADATA}" in info.files]


def pieces(stored: Stored, wanted: NDArray[np.int64], columns: Sequence[str] | None = None) -> Iterator[Piece]:
    """The documents with these numbers, which rise, with some inspection columns or all.

    Raises:
        CorruptIndexError: bytes are not those that were written.
    """
    names = stored_columns(stored.info) if columns is None else columns
    source = _source_offsets(stored) if names else None
    first = 0
    while first < len(wanted):
        run = wanted[first : first + _PIECE_DOCUMENTS]
        limit = int(stored.offsets[run[0]]) + _PIECE_ROWS
        run = run[: max(1, int(np.searchsorted(stored.offsets[run + 1], limit, side="right")))]
        yield _piece(stored, run, names, source)
        first += len(run)


def _piece(stored: Stored, run: NDArray[np.int64], names: Sequence[str], source: NDArray[np.int64] | None) -> Piece:
    records = _records(stored, run)
    rows, own = _rows_of(stored.offsets, run)
    source_rows, source_own = (rows, own) if source is None else _rows_of(source, run)
    bounds = stored.offsets if source is None else source
    start, stop = int(bounds[run[0]]), int(bounds[run[-1] + 1])
    columns = {
        name: read_column(stored.path / "inspection" / name, start, stop)[source_rows] if stop > start else _empty(name)
        for name in names
    }
    payloads = [stored.document(number) for number in run.tolist()]
    return Piece(
        stored.external_ids(run), payloads, records[rows], own, columns, None if source is None else source_own
    )


def _rows_of(offsets: NDArray[Any], run: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of some documents, counted from the first one's first; and offsets of these documents alone."""
    starts, stops = offsets[run].astype(np.int64), offsets[run + 1].astype(np.int64)
    own = np.concatenate([np.zeros(1, np.int64), np.cumsum(stops - starts)])
    return np.arange(own[-1]) + np.repeat(starts - starts[0] - own[:-1], stops - starts), own


def _records(stored: Stored, run: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Rows from the first of the run to the last; what lies between its documents may be anything."""
    size = stored.info.record_bytes
    starts = stored.offsets[run].astype(np.int64) * size
    stops = stored.offsets[run + 1].astype(np.int64) * size
    low, high = int(starts[0]) // BLOCK_BYTES, -(-int(stops[-1]) // BLOCK_BYTES)
    needed = np.zeros(high - low + 1, np.int64)  # marks that add up to 1 or more inside the documents' blocks
    filled = stops > starts
    np.add.at(needed, starts[filled] // BLOCK_BYTES - low, 1)
    np.add.at(needed, -(-stops[filled] // BLOCK_BYTES) - low, -1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], needed.cumsum()[:-1] > 0, [0]])))
    data = np.zeros((high - low) * BLOCK_BYTES, np.uint8)
    for first, last in edges.reshape(-1, 2).tolist():
        at = first * BLOCK_BYTES
        for content in _blocks(stored, low + first, low + last):
            data[at : at + len(content)] = np.frombuffer(content, np.uint8)
            at += len(content)
    skip = int(starts[0]) - low * BLOCK_BYTES
    return data[skip : skip + int(stops[-1] - starts[0])].reshape(-1, size)


def _blocks(stored: Stored, low: int, high: int) -> Iterator[bytes]:
    """Blocks `low` to `high` of the records, those of each shard together."""
    base = 0
    for shard in stored.shards:
        start, stop = max(low, base), min(high, base + shard.blocks)
        if start < stop:
            at = (start - base) * BLOCK_BYTES
            content = read_exactly(shard.path, at, (stop - start) * BLOCK_BYTES)
            wrong = np.flatnonzero(block_checksums(content) != stored.block_checksums[start:stop])
            if len(wrong):
                raise corrupt(shard.path, "blocks with their checksums", f"another in block {start - base + wrong[0]}")
            yield content
        base += shard.blocks


def _source_offsets(stored: Stored) -> NDArray[np.int64] | None:
    """Offsets of the source tokens, int64 [documents + 1]; None where nothing was pooled."""
    if f"{SOURCE_OFFSETS}/{METADATA}" not in stored.info.files:
        return None
    return read_plain(stored.path / SOURCE_OFFSETS, within(stored.info.files, SOURCE_OFFSETS)).astype(np.int64)


def _empty(name: str) -> NDArray[np.int32]:
    return np.empty((0, 2) if name == "spans" else (0,), np.int32)
