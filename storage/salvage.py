"""What can still be read of a damaged segment.

1. Files whose sums are right are sound. Of the others:
2. `offsets`: without them no document can be told from the next; nothing can be salvaged.
3. Records: blocks with their checksums are sound. Where the checksums themselves are damaged, whole shards are sound or not.
4. Texts: each entry has a check of its own.
5. Ids are those of the catalog; postings and checksums are made anew when the segment is written again.
6. Inspection columns that are damaged are given up; without the map of pooled tokens, all of them.

A document is sound if all its blocks and its text are. `scanning.scan` takes them from a `Salvage` as from a `SegmentReader`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.storage.checksums import BLOCK_BYTES, block_checksums
from colindex.storage.directory import corrupt, read_exactly
from colindex.storage.entries import EntryReader, decompress
from colindex.storage.errors import CorruptIndexError
from colindex.storage.plain import CRC_BYTES
from colindex.storage.scanning import inspection_columns
from colindex.storage.segments import SegmentInfo, segment_path
from colindex.storage.shards import CHUNK_ROWS, ShardFile, few_rows_bytes

__all__ = ["Salvage"]

_VECTORS, _TEXT = "its vectors are damaged", "its text is damaged"
_READ_BYTES = 4 << 20


class Salvage:
    """A damaged segment, as far as it can be read.

    Args:
        index_path: the folder of the index.
        info: what the manifest says of the segment.
        damaged: the files whose sums are wrong, by their path below the segment's folder.
        ids: the external ids of the documents that are wanted, by document.

    Raises:
        CorruptIndexError: nothing can be salvaged.
    """

    def __init__(self, index_path: Path, info: SegmentInfo, damaged: Collection[str], ids: Mapping[int, str]) -> None:
        self.info, self.path, self._ids = info, segment_path(index_path, info.name), ids
        self._damaged = frozenset(damaged)
        self._entries = EntryReader(self.path / "documents", info.documents)
        self.offsets: NDArray[Any] = self._read_offsets()
        self.shards = self._find_shards()
        self.block_checksums: NDArray[np.uint32] = np.zeros(sum(shard.blocks for shard in self.shards), np.uint32)
        self.lost: dict[int, str] = {}
        """Documents that are wanted and cannot be had, and why."""
        self._judge(self._check_blocks())
        self.columns = self._sound_columns()
        """Inspection columns that are sound, all of them or none where tokens were pooled."""

    @property
    def sound(self) -> int:
        """How many of the documents that are wanted are sound."""
        return len(self._ids) - len(self.lost)

    @property
    def left_out(self) -> NDArray[np.int64]:
        """The documents that are lost or were not wanted, rising."""
        return np.array(sorted(set(range(self.info.documents)) - (set(self._ids) - set(self.lost))), np.int64)

    @property
    def lost_columns(self) -> list[str]:
        """Inspection columns that are given up."""
        return sorted(inspection_columns(self.info.files) - self.columns)

    def external_ids(self, documents: Sequence[int]) -> list[str]:
        """The ids of some documents, as the catalog has them."""
        return [self._ids[document] for document in documents]

    def documents(self, numbers: Sequence[int]) -> list[bytes]:
        """The payloads of some documents.

        Raises:
            CorruptIndexError: one of them is damaged.
        """
        return [decompress(self.path / "documents", frame) for frame in self._entries.read_many(numbers)]

    def _read_offsets(self) -> NDArray[Any]:
        name = "offsets/c/0"
        if name in self._damaged:
            raise corrupt(self.path / name, "offsets, which tell a document from the next", "damaged ones")
        size = self.info.files[name].bytes - CRC_BYTES
        dtype = "<u4" if size == 4 * (self.info.documents + 1) else "<u8"
        return np.frombuffer(read_exactly(self.path / name, 0, size), dtype)

    def _find_shards(self) -> tuple[ShardFile, ...]:
        """Where the shards end is known from their lengths in the manifest: rows, and 16 bytes a chunk of a full shard."""
        chunk_bytes, chunks = CHUNK_ROWS * self.info.record_bytes, -(-self.info.tokens // CHUNK_ROWS)
        names = sorted((name for name in self.info.files if name.startswith("records/c/")), key=_shard_number)
        few = few_rows_bytes(self.info.tokens, self.info.record_bytes)
        if len(names) == chunks == 1 and self.info.files[names[0]].bytes == few:
            chunk_bytes = -(-self.info.tokens * self.info.record_bytes // BLOCK_BYTES) * BLOCK_BYTES
        full = chunks if len(names) < 2 else (self.info.files[names[0]].bytes - CRC_BYTES) // (chunk_bytes + 16)
        found = []
        for number, name in enumerate(names):
            size = min(full, chunks - number * full) * chunk_bytes
            found.append(ShardFile(self.path / name, size // BLOCK_BYTES, size))
        return tuple(found)

    def _check_blocks(self) -> NDArray[np.bool_]:
        """Which blocks are damaged; of the others, the checksums are put down."""
        bad = np.ones(len(self.block_checksums), np.bool_)
        stored = self._stored_checksums()
        base = 0
        for shard in self.shards:
            sound = shard.path.relative_to(self.path).as_posix() not in self._damaged
            size = min(shard.data_bytes, shard.path.stat().st_size if shard.path.is_file() else 0)
            for at in range(0, size - size % BLOCK_BYTES, _READ_BYTES):
                sums = block_checksums(read_exactly(shard.path, at, min(_READ_BYTES, size - size % BLOCK_BYTES - at)))
                blocks = slice(base + at // BLOCK_BYTES, base + at // BLOCK_BYTES + len(sums))
                bad[blocks] = False if sound else True if stored is None else sums != stored[blocks]
                self.block_checksums[blocks] = sums
            base += shard.blocks
        return bad

    def _stored_checksums(self) -> NDArray[np.uint32] | None:
        name = "block_checksums/c/0"
        if name in self._damaged or name not in self.info.files:
            return None
        return np.frombuffer(read_exactly(self.path / name, 0, 4 * len(self.block_checksums)), "<u4")

    def _judge(self, bad: NDArray[np.bool_]) -> None:
        """Find the documents with bad blocks, and those whose text cannot be read."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(bad)])
        texts_sound = not any(name.startswith("documents/") for name in self._damaged)
        for document in sorted(self._ids):
            start, stop = (int(row) * self.info.record_bytes for row in self.offsets[document : document + 2])
            if stop > start and before[-(-stop // BLOCK_BYTES)] > before[start // BLOCK_BYTES]:
                self.lost[document] = _VECTORS
            if not texts_sound and not self._has_text(document):
                self.lost[document] = f"{_VECTORS}, and {_TEXT}" if document in self.lost else _TEXT

    def _has_text(self, document: int) -> bool:
        try:
            self.documents([document])
        except CorruptIndexError:
            return False
        return True

    def _sound_columns(self) -> frozenset[str]:
        names = inspection_columns(self.info.files)
        sound = names - {name.split("/")[1] for name in self._damaged if name.startswith("inspection/")}
        return sound if "source_offsets" not in names or {"pool_map", "source_offsets"} <= sound else frozenset()


def _shard_number(name: str) -> int:
    return int(name.split("/")[2])
