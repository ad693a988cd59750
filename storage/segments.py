"""Reading segments: the immutable parts of an index.

1. `SegmentInfo` is all that the manifest says of a segment: its counts and the sum of each file.
2. At open, every file has to have its length; the resident parts (offsets, postings, block checksums) are read, compared
   with their sums, and kept; the index of every shard of records has to be what its length says.
3. Records are then read by whoever searches, from `shards`, block by block against `block_checksums`.
4. Ids, documents and inspection columns stay on disk and are read one document at a time; metadata is evaluated there
   (`colindex.storage.metadata`).

Document numbers are local to a segment and no segment refers to another, so segments can be built and searched anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colindex.storage.arrays import METADATA
from colindex.storage.checksums import FileSum
from colindex.storage.columns import read_rows
from colindex.storage.directory import corrupt, read_exactly
from colindex.storage.entries import MAX_ID_BYTES, EntryReader, decode_id, decompress, encode_id
from colindex.storage.metadata import METADATA_FILE, MetadataTable
from colindex.storage.plain import read_plain, within
from colindex.storage.shards import ShardFile, find_shards

__all__ = [
    "COLUMNS",
    "MAX_DOCUMENTS",
    "PARTS",
    "Inspection",
    "SegmentInfo",
    "SegmentReader",
    "metadata_table",
    "segment_path",
]

MAX_DOCUMENTS = 65_536
"""Documents of a segment: their numbers are uint16 in postings."""

COLUMNS = {"token_ids": None, "spans": 2, "pool_map": None}
"""Inspection columns, and the width of those that have one."""

PARTS = ("records", "offsets", "postings", "block_checksums", "ids", "documents", "inspection", "metadata")
"""What the bytes of a segment are counted by."""


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What the manifest knows of a segment."""

    name: str
    """Folder name without its suffix, such as `000001`."""
    documents: int
    tokens: int
    """Stored vectors."""
    source_tokens: int
    """Token vectors before pooling; the same as `tokens` without pooling."""
    record_bytes: int
    files: Mapping[str, FileSum]
    """Each file by its path below the segment's folder, with `/` between the parts."""
    bytes_by_part: Mapping[str, int]
    """Bytes on disk of records, offsets, postings, block_checksums, ids, documents, inspection and metadata."""

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(sum_.bytes for sum_ in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON object with everything."""
        return asdict(self) | {"files": {name: list(sum_) for name, sum_ in sorted(self.files.items())}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SegmentInfo:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        files = {str(name): FileSum(int(size), str(hash_)) for name, (size, hash_) in value["files"].items()}
        counts = {name: _count(value[name]) for name in ("documents", "tokens", "source_tokens", "record_bytes")}
        sizes = {"metadata": 0} | value["bytes_by_part"]  # segments of format 1 have no metadata
        parts = {name: _count(sizes[name]) for name in PARTS}
        return cls(name=str(value["name"]), files=files, bytes_by_part=parts, **counts)


class Inspection(NamedTuple):
    """Where the stored vectors of a document come from, source token by source token."""

    token_ids: NDArray[np.int32] | None
    """Vocabulary ids, int32 [source tokens]; None where no tokenizer made them."""
    spans: NDArray[np.int32] | None
    """Character offsets, int32 [source tokens, 2]; None where no text was indexed."""
    pool_map: NDArray[np.int32]
    """The stored vector that each source token went into, int32 [source tokens]; without pooling 0, 1, 2, ..."""


class SegmentReader:
    """One open segment. Holds the resident parts in memory, and of its files at most those of ids open.

    Args:
        index_path: the folder of the index.
        info: what the manifest says of the segment.

    Raises:
        CorruptIndexError: a file is missing, of another length, or a resident part of other bytes.
    """

    def __init__(self, index_path: Path, info: SegmentInfo) -> None:
        self.info = info
        self.path = segment_path(index_path, info.name)
        self._check_sizes()
        self.offsets: NDArray[Any] = self._resident("offsets")
        """First row of each document and, last, the number of rows: uint32 (uint64 from 2^32 rows) [documents + 1]."""
        self.postings: NDArray[np.uint16] = self._resident("postings/documents")
        """Document numbers by centroid, rising and each once within a centroid, uint16."""
        self.postings_offsets: NDArray[np.uint32] = self._resident("postings/offsets")
        """Centroid `c` owns `postings[postings_offsets[c]:postings_offsets[c + 1]]`, uint32 [centroids + 1]."""
        self.block_checksums: NDArray[np.uint32] = self._resident("block_checksums")
        """Low 32 bits of the xxh3_64 of each block of records, uint32 [blocks]."""
        self.shards: tuple[ShardFile, ...] = find_shards(
            self.path / "records", info.tokens, info.record_bytes, info.files[f"records/{METADATA}"]
        )
        """The files of the records, in order; all but the last hold equally many blocks."""
        self._check_shapes()
        self._ids = EntryReader(self.path / "ids", info.documents, short=MAX_ID_BYTES)
        self._documents = EntryReader(self.path / "documents", info.documents)
        self.metadata = metadata_table(index_path, info)
        """For conditions on metadata; None in segments that were written by a colindex without them."""

    @property
    def resident_bytes(self) -> dict[str, int]:
        """Bytes of each part that is kept in memory."""
        return {
            "offsets": self.offsets.nbytes,
            "postings": self.postings.nbytes,
            "postings_offsets": self.postings_offsets.nbytes,
            "block_checksums": self.block_checksums.nbytes,
            "filters": 0 if self.metadata is None else self.metadata.resident_bytes,
        }

    def external_ids(self, documents: Sequence[int] | NDArray[Any]) -> list[str]:
        """The external ids of some documents, in the order asked for.

        Raises:
            CorruptIndexError: the bytes of one of them are not those that were written.
        """
        return [decode_id(key) for key in self._ids.read_many(documents)]

    def find(self, id: str) -> list[int]:
        """The documents with this external id, rising; a walk through all ids of the segment.

        Raises:
            InvalidIdError: no index can hold such an id.
            CorruptIndexError: the bytes of one of them are not those that were written.
        """
        return self._ids.find(encode_id(id))

    def find_each(self, ids: Iterable[str]) -> dict[str, list[int]]:
        """`find` for many ids, in one walk.

        Raises:
            As `find`.
        """
        return {decode_id(key): found for key, found in self._ids.find_each(map(encode_id, ids)).items()}

    def document(self, number: int) -> bytes:
        """The payload of a document, as it was handed to the writer.

        Raises:
            CorruptIndexError: its bytes are not those that were written.
        """
        return decompress(self.path / "documents", self._documents.read(number))

    def documents(self, numbers: Sequence[int]) -> list[bytes]:
        """The payloads of some documents, in the order asked for.

        Raises:
            As `document`.
        """
        return [decompress(self.path / "documents", frame) for frame in self._documents.read_many(numbers)]

    def inspection(self, number: int) -> Inspection | None:
        """Where the stored vectors of a document come from; None where the build was given nothing about it.

        Raises:
            CorruptIndexError: the bytes are not those that were written.
        """
        names = {name.split("/")[1] for name in self.info.files if name.startswith("inspection/")} - {METADATA}
        if not names:
            return None
        if not 0 <= number < self.info.documents:
            raise IndexError(f"document {number} of a segment with {self.info.documents}")
        start, stop = self._source_bounds(number, pooled="source_offsets" in names)
        columns = {
            name: read_rows(self.path / "inspection" / name, start, stop, width)
            for name, width in COLUMNS.items()
            if name in names
        }
        pool_map = columns.get("pool_map")
        return Inspection(
            token_ids=columns.get("token_ids"),
            spans=columns.get("spans"),
            pool_map=np.arange(stop - start, dtype=np.int32) if pool_map is None else pool_map,
        )

    def _source_bounds(self, number: int, pooled: bool) -> tuple[int, int]:
        """First source token of a document and the one after its last."""
        if not pooled:
            return int(self.offsets[number]), int(self.offsets[number + 1])
        path = self.path / "inspection" / "source_offsets" / "c" / "0"
        start, stop = np.frombuffer(read_exactly(path, 8 * number, 16), "<u8").tolist()
        if not start <= stop <= self.info.source_tokens:
            raise corrupt(path, f"rising offsets up to {self.info.source_tokens:,}", f"{start} and {stop}")
        return start, stop

    def _check_sizes(self) -> None:
        for name, sum_ in self.info.files.items():
            try:
                size = os.stat(self.path / name).st_size
            except OSError as error:
                raise corrupt(self.path / name, f"{sum_.bytes:,} bytes", error.strerror or "an error") from error
            if size != sum_.bytes:
                raise corrupt(self.path / name, f"{sum_.bytes:,} bytes", f"{size:,}")

    def _resident(self, name: str) -> NDArray[Any]:
        return read_plain(self.path / name, within(self.info.files, name))

    def _check_shapes(self) -> None:
        """The parts agree with each other; their bytes are those that were written, so this finds a wrong manifest."""
        blocks = sum(shard.blocks for shard in self.shards)
        found = (
            len(self.offsets) - 1,
            int(self.offsets[-1]),
            int(self.postings_offsets[-1]),
            len(self.block_checksums),
        )
        expected = (self.info.documents, self.info.tokens, len(self.postings), blocks)
        if found != expected:
            raise corrupt(self.path, f"documents, rows, postings and blocks {expected}", found)


def segment_path(index_path: Path, name: str) -> Path:
    """The folder of a segment."""
    return Path(index_path, "segments", f"{name}.zarr")


def metadata_table(index_path: Path, info: SegmentInfo) -> MetadataTable | None:
    """The metadata of a segment, which can be asked without the rest of it; None where an older colindex wrote it."""
    if METADATA_FILE not in info.files:
        return None
    path = segment_path(index_path, info.name) / METADATA_FILE
    return MetadataTable(path, info.files[METADATA_FILE], info.documents)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a count, got {value!r}")
    return value
