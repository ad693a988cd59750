"""Whether the parts of one segment agree with each other.

1. Offsets rise from 0 to the number of rows.
2. Postings rise strictly by (centroid, document), and every document of them exists.
3. Records, in pieces of whole documents: the centroid id at the head of each (2 bytes up to 65,536 centroids, else 4)
   exists, and each pair (centroid, document) is in the postings. The number of distinct pairs equals that of the
   postings, so that none is too many.
4. Every block of the shards has its checksum.
5. Every document can be read.
6. Inspection columns are as long as the source tokens, and the pooling map names stored vectors of the same document.
7. The table of metadata, where there is one, has a row for each document, with its id.

Each problem is (part, expected, got).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from colindex.storage.arrays import METADATA, read_column
from colindex.storage.checksums import BLOCK_BYTES, block_checksums
from colindex.storage.directory import read_exactly
from colindex.storage.errors import CorruptIndexError
from colindex.storage.metadata import METADATA_FILE
from colindex.storage.plain import read_json, read_plain
from colindex.storage.segments import SegmentReader

__all__ = ["Problem", "segment_problems"]

Problem = tuple[str, str, str]
"""Part, expected, got."""

_PIECE_BYTES = 4 << 20
_PIECE_ROWS = 1 << 20
_PIECE_IDS = 1024


def segment_problems(reader: SegmentReader) -> Iterator[Problem]:
    """Everything in a segment that does not fit together."""
    if (_lengths(reader.offsets) < 0).any() or reader.offsets[0] != 0:
        yield "offsets", f"to rise from 0 to {reader.info.tokens:,}", "other values"
        return
    pairs = _posting_pairs(reader)
    if pairs is None:
        yield "postings", "offsets that rise from 0 to the number of postings", "other values"
        return
    if (pairs[1:] <= pairs[:-1]).any():
        yield "postings", "documents that rise within each centroid", "other values"
    if len(reader.postings) and int(reader.postings.max()) >= reader.info.documents:
        yield "postings", f"documents below {reader.info.documents:,}", f"{int(reader.postings.max()):,}"
    try:
        yield from _record_problems(reader, pairs)
        yield from _block_problems(reader)
        yield from _entry_problems(reader)
        yield from _inspection_problems(reader)
        yield from _metadata_problems(reader)
    except CorruptIndexError as error:
        yield "", "readable bytes", str(error)


def _lengths(offsets: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many each owner has; negative where the offsets fall."""
    offsets = offsets.astype(np.int64)
    return offsets[1:] - offsets[:-1]


def _posting_pairs(reader: SegmentReader) -> NDArray[np.uint64] | None:
    """(centroid << 16) | document of each posting, in stored order."""
    counts = _lengths(reader.postings_offsets)
    if reader.postings_offsets[0] != 0 or (counts < 0).any():
        return None
    centroids: NDArray[np.uint64] = np.arange(len(counts), dtype=np.uint64) << np.uint64(16)
    return np.repeat(centroids, counts) | reader.postings


def _record_problems(reader: SegmentReader, pairs: NDArray[np.uint64]) -> Iterator[Problem]:
    """Step 3."""
    n_centroids, distinct = len(reader.postings_offsets) - 1, 0
    for first, last in _pieces(reader.offsets, max(1, _PIECE_BYTES // reader.info.record_bytes)):
        start, stop = int(reader.offsets[first]), int(reader.offsets[last])
        centroids = _centroids(reader, start, stop, n_centroids)
        if len(centroids) and int(centroids.max()) >= n_centroids:
            yield (
                "records",
                f"centroids below {n_centroids:,}",
                f"{int(centroids.max()):,} in rows {start:,} to {stop:,}",
            )
            return
        lengths = _lengths(reader.offsets[first : last + 1])
        documents = np.repeat(np.arange(first, last, dtype=np.uint64), lengths)
        found = np.unique((centroids << np.uint64(16)) | documents)
        places = np.minimum(np.searchsorted(pairs, found), max(0, len(pairs) - 1))
        missing = found if not len(pairs) else found[pairs[places] != found]
        if len(missing):
            centroid, document = int(missing[0]) >> 16, int(missing[0]) & 0xFFFF
            yield "postings", f"document {document} under centroid {centroid}, as its records say", "no such posting"
            return
        distinct += len(found)
    if distinct != len(pairs):
        yield "postings", f"{distinct:,} postings, as many as the records have", f"{len(pairs):,}"


def _centroids(reader: SegmentReader, start: int, stop: int, n_centroids: int) -> NDArray[np.uint64]:
    """The centroid ids at the head of some records, uint64 [rows]."""
    width, size = (2 if n_centroids <= 1 << 16 else 4), reader.info.record_bytes
    data = bytearray()
    position, end, base = start * size, stop * size, 0
    for shard in reader.shards:
        low, high = max(position, base), min(end, base + shard.data_bytes)
        if low < high:
            data += read_exactly(shard.path, low - base, high - low)
        base += shard.data_bytes
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    return np.ascontiguousarray(rows[:, :width]).view(f"<u{width}").reshape(-1).astype(np.uint64)


def _pieces(offsets: NDArray[np.integer], rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of whole documents of about `rows` rows each, one document at least."""
    first, documents = 0, len(offsets) - 1
    while first < documents:
        last = int(np.searchsorted(offsets, int(offsets[first]) + rows, side="right")) - 1
        last = min(documents, max(first + 1, last))
        yield first, last
        first = last


def _block_problems(reader: SegmentReader) -> Iterator[Problem]:
    """Step 4."""
    first = 0
    for shard in reader.shards:
        for start in range(0, shard.data_bytes, _PIECE_BYTES):
            data = read_exactly(shard.path, start, min(_PIECE_BYTES, shard.data_bytes - start))
            at = first + start // BLOCK_BYTES
            wrong = np.flatnonzero(block_checksums(data) != reader.block_checksums[at : at + len(data) // BLOCK_BYTES])
            if len(wrong):
                name, block = os.path.relpath(shard.path, reader.path), start // BLOCK_BYTES + int(wrong[0])
                yield name, "blocks with the checksums stored for them", f"block {block} with another"
        first += shard.blocks


def _entry_problems(reader: SegmentReader) -> Iterator[Problem]:
    """Step 5; what the catalog says of the ids is `verify.py`'s matter."""
    for number in range(reader.info.documents):
        try:
            reader.document(number)
        except CorruptIndexError as error:
            yield "documents", f"document {number}", str(error)
            return


def _inspection_problems(reader: SegmentReader) -> Iterator[Problem]:
    """Step 6."""
    folder, source = reader.path / "inspection", reader.offsets.astype(np.int64)
    names = {name.split("/")[1] for name in reader.info.files if name.startswith("inspection/")} - {METADATA}
    if "source_offsets" in names:
        source = read_plain(folder / "source_offsets").astype(np.int64)
        if len(source) != reader.info.documents + 1 or source[0] != 0 or (_lengths(source) < 0).any():
            yield "inspection/source_offsets", f"to rise from 0 to {reader.info.source_tokens:,}", "other values"
            return
    if int(source[-1]) != reader.info.source_tokens:
        yield "inspection", f"{reader.info.source_tokens:,} source tokens", f"{int(source[-1]):,}"
        return
    for name in sorted(names - {"source_offsets"}):
        rows = read_json(folder / name / METADATA).get("shape", [None])[0]
        if rows != reader.info.source_tokens:
            yield f"inspection/{name}", f"{reader.info.source_tokens:,} rows", f"{rows}"
        elif name == "pool_map":
            yield from _pool_map_problems(reader, source)
        else:
            for start in range(0, rows, _PIECE_ROWS):
                read_column(folder / name, start, min(rows, start + _PIECE_ROWS))


def _metadata_problems(reader: SegmentReader) -> Iterator[Problem]:
    """Step 7."""
    if reader.metadata is None:
        return
    ids, documents = reader.metadata.ids(), reader.info.documents
    if len(ids) != documents:
        yield METADATA_FILE, f"{documents:,} rows, one a document", f"{len(ids):,}"
        return
    for first in range(0, documents, _PIECE_IDS):
        for number, id in enumerate(reader.external_ids(range(first, min(documents, first + _PIECE_IDS))), first):
            if ids[number] != id:
                yield METADATA_FILE, f"id {id!r} in row {number}", repr(ids[number])
                return


def _pool_map_problems(reader: SegmentReader, source: NDArray[np.int64]) -> Iterator[Problem]:
    stored = _lengths(reader.offsets)
    for first, last in _pieces(source, _PIECE_ROWS):
        values = read_column(reader.path / "inspection" / "pool_map", int(source[first]), int(source[last]))
        limits = np.repeat(stored[first:last], _lengths(source[first : last + 1]))
        if (values < 0).any() or (values >= limits).any():
            yield "inspection/pool_map", "stored vectors of the same document", f"others in documents {first} to {last}"
            return
