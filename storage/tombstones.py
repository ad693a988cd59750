"""Tombstones: which documents of a segment are deleted, beside the segment, which never changes.

1. `tombstones/000001-000007.zarr` is a plain array (`plain.py`) of uint8: one bit a document of segment 000001 as of
   generation 7, document `d` in bit `d % 8` of byte `d // 8`; a set bit is a deleted document. Bits beyond the last are 0.
2. A delete writes a new file for each segment that it touches; the manifest names the newest of each. Cost: 8 KiB a segment.
3. In memory the bits are turned over: a set bit is a document that may be returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.storage.checksums import FileSum
from colindex.storage.directory import corrupt, fsync_folder, fsync_tree, remove_tree
from colindex.storage.plain import read_plain, write_plain

__all__ = ["FOLDER", "Tombstones", "live_bits", "read_tombstones", "tombstones_path", "write_tombstones"]

FOLDER = "tombstones"


@dataclass(frozen=True, slots=True)
class Tombstones:
    """What the manifest knows of the deleted documents of one segment."""

    name: str
    """Folder name without its suffix, such as `000001-000007`."""
    deleted: int
    """How many documents are deleted."""
    files: Mapping[str, FileSum]
    """Each file by its path below the folder."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object with everything."""
        return {
            "name": self.name,
            "deleted": self.deleted,
            "files": {name: list(sum_) for name, sum_ in sorted(self.files.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tombstones:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        deleted = value["deleted"]
        if not isinstance(deleted, int) or isinstance(deleted, bool) or deleted < 1:
            raise ValueError(f"expected a number of deleted documents, got {deleted!r}")
        files = {str(name): FileSum(int(size), str(hash_)) for name, (size, hash_) in value["files"].items()}
        return cls(name=str(value["name"]), deleted=deleted, files=files)


def tombstones_path(index_path: Path, name: str) -> Path:
    """The folder of some tombstones."""
    return Path(index_path, FOLDER, f"{name}.zarr")


def write_tombstones(
    index_path: Path, segment: str, generation: int, documents: int, deleted: Iterable[int]
) -> Tombstones:
    """Write which of a segment's `documents` are deleted as of a generation; durable on return.

    Raises:
        DiskSpaceError: the disk is full.
    """
    marks = np.zeros(documents, np.bool_)
    marks[np.fromiter(deleted, np.int64)] = True
    name = f"{segment}-{generation:06d}"
    path = tombstones_path(index_path, name)
    remove_tree(path)
    files = write_plain(path, np.packbits(marks, bitorder="little"))
    fsync_tree(path)
    fsync_folder(path.parent)
    fsync_folder(path.parent.parent)
    return Tombstones(name, int(marks.sum()), files)


def read_tombstones(index_path: Path, tombstones: Tombstones, documents: int) -> NDArray[np.int64]:
    """The numbers of the deleted documents of a segment of `documents`, rising.

    Raises:
        CorruptIndexError: the bytes are not those that were written, or not of this segment.
    """
    path = tombstones_path(index_path, tombstones.name)
    bits = read_plain(path, tombstones.files)
    if bits.dtype != np.uint8 or bits.shape != (-(-documents // 8),):
        raise corrupt(path, f"a bit for each of {documents:,} documents", f"{bits.dtype} {bits.shape}")
    marks = np.unpackbits(bits, bitorder="little")
    deleted = np.flatnonzero(marks)
    if len(deleted) != tombstones.deleted or marks[documents:].any():
        raise corrupt(path, f"{tombstones.deleted:,} deleted among {documents:,} documents", f"{len(deleted):,}")
    return deleted


def live_bits(deleted: NDArray[np.int64], documents: int) -> NDArray[np.uint8]:
    """Which documents of a segment may be returned: packed bits, uint8 [ceil(documents / 8)], little-endian."""
    marks = np.ones(documents, np.bool_)
    marks[deleted] = False
    return np.packbits(marks, bitorder="little")
