"""Writing a segment.

1. `append` takes documents as they come: records go to the shard being written, ids and payloads to their entry files,
   inspection columns to theirs, metadata to a database in memory. Of each stored vector, 8 bytes stay in memory: centroid and
   document, for the postings.
2. `seal` sorts those into postings (each document once under each of its centroids), writes the small parts, and syncs every
   file and folder. The segment is then complete and durable, but garbage until a commit names it.
3. `abort`, or a crash, leaves garbage that the next writer removes.

Memory: 8 bytes a stored vector, one inner chunk of records, one shard of each inspection column, 16 bytes a document, and
the metadata of all documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.storage.arrays import METADATA, ColumnWriter, group_metadata
from colindex.storage.checksums import FileSum
from colindex.storage.directory import fsync_folder, fsync_tree, remove_tree, write_new_file
from colindex.storage.entries import EntryWriter, compress, encode_id
from colindex.storage.errors import StorageError
from colindex.storage.metadata import METADATA_FILE, MetadataWriter
from colindex.storage.plain import below, write_plain
from colindex.storage.segments import COLUMNS, MAX_DOCUMENTS, PARTS, SegmentInfo, segment_path
from colindex.storage.shards import RecordWriter

__all__ = ["SegmentWriter"]


class SegmentWriter:
    """Writes one segment; nothing of it is durable before `seal`, and nothing names it before a commit.

    Args:
        index_path: the folder of the index.
        name: the segment's name; what a crash left in its folder is removed.
        record_bytes: bytes of a record.
        n_centroids: centroids of the codebook; every centroid id is below it.
    """

    def __init__(self, index_path: Path, name: str, *, record_bytes: int, n_centroids: int) -> None:
        if record_bytes < 2 or n_centroids < 1:
            got = f"{record_bytes} and {n_centroids}"
            raise StorageError(f"segment {name}: expected records of 2 bytes or more and a centroid, got {got}.")
        self._path, self._name = segment_path(index_path, name), name
        self._record_bytes, self._n_centroids = record_bytes, n_centroids
        remove_tree(self._path)
        self._path.mkdir(parents=True)
        self._records = RecordWriter(self._path / "records", record_bytes)
        self._ids = EntryWriter(self._path / "ids")
        self._documents = EntryWriter(self._path / "documents")
        self._metadata = MetadataWriter()
        self._columns: dict[str, ColumnWriter] | None = None
        self._postings = _Postings()
        self._offsets: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._source_offsets: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._pooled = False
        self.n_documents = 0
        self.n_tokens = 0
        self._n_source_tokens = 0

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()

    def append(  # noqa: PLR0913 - the columns of a document, one argument each
        self,
        records: NDArray[np.uint8],
        centroids: NDArray[np.uint32],
        offsets: NDArray[np.int64],
        ids: Sequence[str],
        documents: Sequence[bytes],
        token_ids: NDArray[np.int32] | None = None,
        spans: NDArray[np.int32] | None = None,
        source_offsets: NDArray[np.int64] | None = None,
        pool_map: NDArray[np.int32] | None = None,
        titles: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Append documents.

        Args:
            records: uint8 [stored vectors, record_bytes].
            centroids: the centroid of each, uint32 [stored vectors].
            offsets: int64 [documents + 1], from 0 to the number of stored vectors.
            ids: external ids [documents].
            documents: opaque payloads [documents].
            token_ids: vocabulary ids, int32 [source tokens].
            spans: character offsets, int32 [source tokens, 2].
            source_offsets: int64 [documents + 1] into the three columns; None where nothing was pooled.
            pool_map: the stored vector of its document that each source token went into, int32 [source tokens].
            titles: what conditions know as `title` [documents]; None where there are none.
            metadata: JSON objects [documents], for conditions; None where there are none.

        Raises:
            StorageError: the arguments disagree, or the segment would hold more than 65,536 documents.
            InvalidIdError: an id that cannot be stored.
            DiskSpaceError: the disk is full.
        """
        batch = _Batch(records, centroids, offsets, source_offsets, {})
        for name, column in (("token_ids", token_ids), ("spans", spans), ("pool_map", pool_map)):
            if column is not None:
                batch.columns[name] = column
        titles = [""] * len(ids) if titles is None else titles
        metadata = [{}] * len(ids) if metadata is None else metadata
        self._check(batch, ids, documents)
        _expect("titles and metadata", (len(titles), len(metadata)), (len(ids), len(ids)))
        keys = [encode_id(id) for id in ids]
        self._records.append(records)
        self._postings.append(np.asarray(centroids), np.asarray(offsets), self.n_documents)
        for key in keys:
            self._ids.append(key)
        for frame in compress(documents):
            self._documents.append(frame)
        for row in zip(ids, titles, metadata, strict=True):
            self._metadata.append(*row)
        self._append_columns(batch)
        self._offsets.append(np.asarray(offsets[1:], np.int64) + self.n_tokens)
        self._source_offsets.append(np.asarray(batch.source[1:], np.int64) + self._n_source_tokens)
        self.n_documents += len(ids)
        self.n_tokens += len(records)
        self._n_source_tokens += int(batch.source[-1])

    def seal(self) -> SegmentInfo:
        """End the segment and make all of it durable.

        Raises:
            StorageError: it holds no document.
            DiskSpaceError: the disk is full.
        """
        if not self.n_documents:
            raise StorageError(f"{self._path}: a segment holds a document or more; abort one that is empty.")
        files = self._finish_parts()
        fsync_tree(self._path)
        fsync_folder(self._path.parent)
        fsync_folder(self._path.parent.parent)
        sizes: Counter[str] = Counter()
        for name, sum_ in files.items():
            sizes[name.split("/")[0].removesuffix(".sqlite")] += sum_.bytes
        return SegmentInfo(
            name=self._name,
            documents=self.n_documents,
            tokens=self.n_tokens,
            source_tokens=self._n_source_tokens,
            record_bytes=self._record_bytes,
            files=files,
            bytes_by_part={part: sizes[part] for part in PARTS},
        )

    def abort(self) -> None:
        """Remove what was written."""
        for part in (self._records, self._ids, self._documents, self._metadata):
            part.discard()
        remove_tree(self._path)

    def _finish_parts(self) -> dict[str, FileSum]:
        records, block_checksums = self._records.finish()
        postings_documents, postings_offsets = self._postings.finish(self._n_centroids)
        offsets = np.concatenate(self._offsets)
        offsets = offsets.astype(np.uint32 if self.n_tokens < 2**32 else np.uint64)
        attributes = {"format": "colindex segment", "centroids": self._n_centroids, "record_bytes": self._record_bytes}
        files = {METADATA: write_new_file(self._path / METADATA, group_metadata(attributes))}
        files |= below("records", records)
        files |= self._plain("offsets", offsets)
        files |= self._group("postings")
        files |= self._plain("postings/documents", postings_documents)
        files |= self._plain("postings/offsets", postings_offsets)
        files |= self._plain("block_checksums", block_checksums)
        files |= self._group("ids") | below("ids", self._ids.finish())
        files |= self._group("documents") | below("documents", self._documents.finish())
        files[METADATA_FILE] = self._metadata.finish(self._path / METADATA_FILE)
        if self._columns:
            files |= self._group("inspection")
            for name, column in self._columns.items():
                files |= below(f"inspection/{name}", column.finish())
            if self._pooled:
                source_offsets = np.concatenate(self._source_offsets).astype(np.uint64)
                files |= self._plain("inspection/source_offsets", source_offsets)
        return files

    def _plain(self, name: str, array: NDArray[Any]) -> dict[str, FileSum]:
        return below(name, write_plain(self._path / name, array))

    def _group(self, name: str) -> dict[str, FileSum]:
        return {f"{name}/{METADATA}": write_new_file(self._path / name / METADATA, group_metadata({}))}

    def _append_columns(self, batch: _Batch) -> None:
        if self._columns is None:
            self._pooled = batch.source_offsets is not None
            folder = self._path / "inspection"
            self._columns = {name: ColumnWriter(folder / name, np.int32, COLUMNS[name]) for name in batch.columns}
        for name, column in self._columns.items():
            column.append(np.asarray(batch.columns[name]))

    def _check(self, batch: _Batch, ids: Sequence[str], documents: Sequence[bytes]) -> None:
        batch.check(self._record_bytes, self._n_centroids, len(ids))
        if len(documents) != len(ids):
            raise StorageError(f"append: expected {len(ids)} documents for {len(ids)} ids, got {len(documents)}.")
        if self.n_documents + len(ids) > MAX_DOCUMENTS:
            count = self.n_documents + len(ids)
            raise StorageError(
                f"{self._path}: a segment holds at most {MAX_DOCUMENTS:,} documents, got {count:,}; "
                "seal this one and begin another."
            )
        if self._columns is not None:
            had = (sorted(self._columns), self._pooled)
            if (got := (sorted(batch.columns), batch.source_offsets is not None)) != had:
                raise StorageError(f"append: expected inspection columns (and pooling) {had}, as before, got {got}.")


@dataclass(frozen=True, slots=True)
class _Batch:
    """The arrays of one `append`."""

    records: NDArray[np.uint8]
    centroids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    source_offsets: NDArray[np.int64] | None
    columns: dict[str, NDArray[np.int32]]

    @property
    def source(self) -> NDArray[np.int64]:
        """Offsets of the source tokens."""
        return self.offsets if self.source_offsets is None else self.source_offsets

    def check(self, record_bytes: int, n_centroids: int, documents: int) -> None:
        """Shapes agree and every centroid exists."""
        tokens = len(self.centroids)
        _expect("records", self.records.shape, (tokens, record_bytes))
        _expect("records", str(self.records.dtype), "uint8")
        _expect_offsets("offsets", self.offsets, documents, tokens)
        if self.source_offsets is not None:
            _expect_offsets("source_offsets", self.source_offsets, documents, int(self.source_offsets[-1]))
        if tokens and int(self.centroids.max()) >= n_centroids:
            raise StorageError(f"append: expected centroids below {n_centroids}, got {int(self.centroids.max())}.")
        for name, column in self.columns.items():
            width = COLUMNS[name]
            _expect(name, column.shape, (int(self.source[-1]), *(() if width is None else (width,))))


class _Postings:
    """Collects (centroid, document) pairs in one growing array of 8 bytes each."""

    def __init__(self) -> None:
        self._pairs = np.empty(1 << 12, np.uint64)
        self._count = 0

    def append(self, centroids: NDArray[Any], offsets: NDArray[Any], first_document: int) -> None:
        """Add the pairs of some documents, each once."""
        numbers = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64) + np.uint64(first_document), np.diff(offsets))
        pairs = (centroids.astype(np.uint64) << np.uint64(16)) | numbers
        pairs.sort()  # and not np.unique, which takes ten times longer
        pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])] if len(pairs) else pairs
        needed = self._count + len(pairs)
        if needed > len(self._pairs):  # realloc moves pages, it does not copy them: no second array at the peak
            self._pairs.resize(max(needed, len(self._pairs) * 3 // 2), refcheck=False)
        self._pairs[self._count : needed] = pairs
        self._count = needed

    def finish(self, n_centroids: int) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
        """Documents by centroid, uint16, and where each centroid begins, uint32 [centroids + 1]."""
        if self._count >= 2**32:
            raise StorageError(f"a segment holds fewer than 2^32 postings, got {self._count:,}; seal it earlier.")
        pairs = self._pairs[: self._count]
        pairs.sort()
        starts = np.arange(n_centroids + 1, dtype=np.uint64) << np.uint64(16)
        offsets = np.searchsorted(pairs, starts).astype(np.uint32)
        return pairs.astype(np.uint16), offsets


def _expect(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise StorageError(f"append: {what}: expected {expected}, got {got}.")


def _expect_offsets(what: str, offsets: NDArray[Any], documents: int, end: int) -> None:
    _expect(what, offsets.shape, (documents + 1,))
    if offsets[0] != 0 or offsets[-1] != end or (np.diff(offsets) < 0).any():
        raise StorageError(f"append: {what}: expected to rise from 0 to {end}, got {offsets[0]} to {offsets[-1]}.")
