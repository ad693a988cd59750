"""Reading a segment from end to end: what is not deleted, in pieces, to be written anew elsewhere.

1. Cut the segment into pieces of whole documents: at most 4 MiB of records, 2^17 vectors and 4,096 documents each (a longer
   document stands alone).
2. Read the blocks of records that the documents left in a piece touch, and hold each against its checksum; read inspection
   columns, which carry checks of their own. Leave out the rows of deleted documents.
3. Read ids and payloads, which carry checks too, of the documents that are left.

Bytes that are not those that were written raise `CorruptIndexError`: damage is never copied. What is left out may be anything.
Memory: a piece or two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from colindex.storage.arrays import METADATA
from colindex.storage.checksums import BLOCK_BYTES, block_checksums
from colindex.storage.columns import read_rows
from colindex.storage.directory import corrupt, read_exactly
from colindex.storage.manifest import Manifest
from colindex.storage.plain import read_json, read_plain, within
from colindex.storage.segments import COLUMNS, SegmentInfo
from colindex.storage.shards import ShardFile
from colindex.storage.tombstones import read_tombstones

__all__ = ["LiveSegment", "Part", "Scannable", "deleted_documents", "inspection_columns", "scan"]

_PIECE_BYTES, _PIECE_ROWS, _PIECE_DOCUMENTS = 4 << 20, 1 << 17, 4096
_SHORT_CENTROIDS = 1 << 16
_STARTS = "postings/offsets/c/0"


class Scannable(Protocol):
    """The parts of a segment that are read; a `SegmentReader` has them."""

    info: SegmentInfo
    path: Path
    offsets: NDArray[Any]
    block_checksums: NDArray[np.uint32]
    shards: tuple[ShardFile, ...]

    def external_ids(self, documents: Sequence[int]) -> list[str]:
        """The external ids of some documents."""
        ...

    def documents(self, numbers: Sequence[int]) -> list[bytes]:
        """The payloads of some documents."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """Some documents of a segment, as `SegmentWriter.append` takes them."""

    records: NDArray[np.uint8]
    """uint8 [stored vectors, record_bytes]."""
    centroids: NDArray[np.uint32]
    """The centroid of each, from the heads of the records."""
    offsets: NDArray[np.int64]
    """First stored vector of each document and, last, their number: int64 [documents + 1]."""
    ids: Sequence[str]
    documents: Sequence[bytes]
    """Payloads, as they were handed to the writer."""
    columns: dict[str, NDArray[np.int32]]
    """Those of `token_ids`, `spans` and `pool_map` that the segment has, a row for each source token."""
    source_offsets: NDArray[np.int64] | None
    """First source token of each document; None where nothing was pooled."""

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.ids)

    def split(self, count: int) -> tuple[Part, Part]:
        """The first `count` documents, and the others."""
        return self._between(0, count), self._between(count, len(self))

    def _between(self, first: int, stop: int) -> Part:
        edges = self.offsets[first : stop + 1]
        source = edges if self.source_offsets is None else self.source_offsets[first : stop + 1]
        return Part(
            records=self.records[edges[0] : edges[-1]],
            centroids=self.centroids[edges[0] : edges[-1]],
            offsets=edges - edges[0],
            ids=self.ids[first:stop],
            documents=self.documents[first:stop],
            columns={name: column[source[0] : source[-1]] for name, column in self.columns.items()},
            source_offsets=None if self.source_offsets is None else source - source[0],
        )


class LiveSegment:
    """A segment to be read whole or in parts; what is deleted is left out.

    Args:
        reader: the segment.
        deleted: numbers of its deleted documents.
        columns: the inspection columns to read; None for all.

    Raises:
        CorruptIndexError: bytes are not those that were written.
    """

    def __init__(self, reader: Scannable, deleted: NDArray[np.int64], columns: Collection[str] | None = None) -> None:
        self.reader = reader
        self._names = inspection_columns(reader.info.files) if columns is None else frozenset(columns)
        _check_column_metadata(reader, self._names)
        self._live = np.ones(reader.info.documents, np.bool_)
        self._live[deleted] = False
        self._source_offsets = _source_offsets(reader) if "source_offsets" in self._names else None

    def pieces(self, rows: int = _PIECE_ROWS) -> Iterator[tuple[int, int]]:
        """Step 1, with at most this many vectors in a piece: its first document and the one after its last."""
        rows = max(1, min(rows, _PIECE_BYTES // self.reader.info.record_bytes))
        offsets, first, documents = self.reader.offsets, 0, self.reader.info.documents
        while first < documents:
            stop = int(np.searchsorted(offsets, int(offsets[first]) + rows, side="right")) - 1
            stop = min(max(stop, first + 1), first + _PIECE_DOCUMENTS, documents)
            if self._live[first:stop].any():
                yield first, stop
            first = stop

    def read(self, first: int, stop: int) -> Part:
        """Steps 2 and 3 for one piece.

        Raises:
            CorruptIndexError: bytes are not those that were written.
        """
        return _part(self.reader, first, stop, self._live[first:stop], self._names, self._source_offsets)


def scan(reader: Scannable, deleted: NDArray[np.int64], columns: Collection[str] | None = None) -> Iterator[Part]:
    """The documents of a segment that are not deleted, in order, some at a time, with all inspection columns or some.

    Raises:
        CorruptIndexError: bytes are not those that were written.
    """
    segment = LiveSegment(reader, deleted, columns)
    for piece in segment.pieces():
        yield segment.read(*piece)


def deleted_documents(index_path: Path, manifest: Manifest, info: SegmentInfo) -> NDArray[np.int64]:
    """The numbers of the deleted documents of a segment, rising.

    Raises:
        CorruptIndexError: bytes are not those that were written.
    """
    if info.name not in manifest.tombstones:
        return np.empty(0, np.int64)
    return read_tombstones(index_path, manifest.tombstones[info.name], info.documents)


def inspection_columns(names: Iterable[str]) -> frozenset[str]:
    """The inspection columns of a segment with these files, `source_offsets` among them where it pooled."""
    return frozenset(name.split("/")[1] for name in names if name.startswith("inspection/")) - {METADATA}


def _part(
    reader: Scannable,
    first: int,
    stop: int,
    live: NDArray[np.bool_],
    names: Collection[str],
    source_offsets: NDArray[np.int64] | None,
) -> Part:
    """Steps 2 and 3 for documents `first` to `stop`, of which some are `live`."""
    edges = reader.offsets[first : stop + 1].astype(np.int64)
    source_edges = edges if source_offsets is None else source_offsets[first : stop + 1]
    rows, offsets = _chosen_rows(edges, live)
    source_rows, source = _chosen_rows(source_edges, live)
    records = _records(reader, edges, live)[rows]
    numbers = (first + np.flatnonzero(live)).tolist()
    folder, (begin, end) = reader.path / "inspection", source_edges[[0, -1]].tolist()
    columns = {
        name: read_rows(folder / name, begin, end, width)[source_rows]
        for name, width in COLUMNS.items()
        if name in names
    }
    return Part(
        records=records,
        centroids=_heads(
            records, reader.info.files[_STARTS].bytes // 4 - 2
        ),  # one start more than centroids, and a check
        offsets=offsets,
        ids=reader.external_ids(numbers),
        documents=reader.documents(numbers),
        columns=columns,
        source_offsets=None if source_offsets is None else source,
    )


def _records(reader: Scannable, edges: NDArray[np.int64], live: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """All rows of some documents; those of documents that are not live may be anything."""
    size = reader.info.record_bytes
    low, high = int(edges[0]) * size // BLOCK_BYTES, -(-int(edges[-1]) * size // BLOCK_BYTES)
    filled = live & (np.diff(edges) > 0)
    steps = np.zeros(high - low + 1, np.int64)  # of the number of documents that touch a block
    np.add.at(steps, edges[:-1][filled] * size // BLOCK_BYTES - low, 1)
    np.add.at(steps, -(-edges[1:][filled] * size // BLOCK_BYTES) - low, -1)
    turns = np.flatnonzero(np.diff(steps.cumsum() > 0, prepend=False)).reshape(-1, 2)  # the last step leads to 0
    data = np.zeros((high - low) * BLOCK_BYTES, np.uint8)
    for first, stop in turns.tolist():
        data[first * BLOCK_BYTES : stop * BLOCK_BYTES] = np.frombuffer(
            _blocks(reader, low + first, low + stop), np.uint8
        )
    skipped = int(edges[0]) * size - low * BLOCK_BYTES
    return data[skipped : skipped + int(edges[-1] - edges[0]) * size].reshape(-1, size)


def _blocks(reader: Scannable, low: int, high: int) -> bytes:
    """Blocks `low` to `high` of the records, each checked."""
    data, base = bytearray(), 0
    for shard in reader.shards:
        begin, end = max(low, base), min(high, base + shard.blocks)
        if begin < end:
            piece = read_exactly(shard.path, (begin - base) * BLOCK_BYTES, (end - begin) * BLOCK_BYTES)
            wrong = np.flatnonzero(block_checksums(piece) != reader.block_checksums[begin:end])
            if len(wrong):
                at = (begin - base + int(wrong[0])) * BLOCK_BYTES
                raise corrupt(shard.path, f"a block at byte {at:,} with the checksum stored for it", "one with another")
            data += piece
        base += shard.blocks
    return bytes(data)


def _heads(records: NDArray[np.uint8], n_centroids: int) -> NDArray[np.uint32]:
    """The centroid ids that records begin with: 2 bytes up to 65,536 centroids, else 4."""
    width = 2 if n_centroids <= _SHORT_CENTROIDS else 4
    return np.ascontiguousarray(records[:, :width]).view(f"<u{width}").reshape(-1).astype(np.uint32)


def _source_offsets(reader: Scannable) -> NDArray[np.int64] | None:
    """First source token of each document; None where nothing was pooled."""
    sums = within(reader.info.files, "inspection/source_offsets")
    if not sums:
        return None
    path = reader.path / "inspection" / "source_offsets"
    offsets = read_plain(path, sums).astype(np.int64)
    if offsets.shape != (reader.info.documents + 1,) or int(offsets[-1]) != reader.info.source_tokens:
        raise corrupt(path, f"{reader.info.documents + 1:,} offsets up to {reader.info.source_tokens:,}", "others")
    return offsets


def _check_column_metadata(reader: Scannable, names: Collection[str]) -> None:
    """What says how the columns are to be read is what was written: their values are checked as they are read."""
    for name, sum_ in reader.info.files.items():
        if name.startswith("inspection/") and name.endswith(METADATA) and name.split("/")[1] in names:
            read_json(reader.path / name, sum_)


def _chosen_rows(offsets: NDArray[np.int64], marks: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The rows of the marked owners, and where each of those begins among them."""
    lengths = np.diff(offsets)
    return np.repeat(marks, lengths), np.concatenate([[0], np.cumsum(lengths[marks])])
