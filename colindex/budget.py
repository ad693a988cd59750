"""The memory budget: what must stay resident, what the cache gets, and how much of each is in use.

budget = codebook + postings + offsets + checksums + block table        resident, fixed once opened
+ tombstones + room for the conditions that are kept             resident, while the generation is open
+ workspace                                                      what one search needs for a moment, or a thread keeps
+ cache                                                          the rest, at least a mebibyte
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colindex.codebook import SearchCodebook
from colindex.errors import MemoryBudgetError
from colindex.selection import Selection
from colindex.storage.blocks import SegmentBlocks
from colindex.storage.segments import PARTS, SegmentReader

if TYPE_CHECKING:
    from colindex.search import Snapshot
    from colindex.storage.manifest import Manifest

__all__ = ["IndexStats", "divide_budget"]

MINIMUM_CACHE = 1 << 20
WORKSPACE = 12 << 20
"""Scores of one block of query tokens, a round's records, 8,192 decoded vectors and their dot products; rows of sums and
pages of ids, half a mebibyte each."""
TABLE_BYTES_A_BLOCK = 4
"""The block table's own, see `colindex.storage.eviction`."""


def divide_budget(
    path: Path,
    budget: int,
    codebook: SearchCodebook,
    segments: Sequence[SegmentReader],
    blocks: Sequence[SegmentBlocks],
    live: Selection,
) -> int:
    """Bytes left for the cache.

    Raises:
        MemoryBudgetError: not even the smallest cache fits.
    """
    resident = codebook.resident_bytes + sum(sum(segment.resident_bytes.values()) for segment in segments)
    resident += sum(len(segment.checksums) for segment in blocks) * TABLE_BYTES_A_BLOCK + live.nbytes + WORKSPACE
    minimum = resident + MINIMUM_CACHE
    if budget < minimum:
        raise MemoryBudgetError(
            f"{path}: expected a memory budget of at least {-(-minimum // 2**20)} MiB for this index "
            f"(centroids, postings and offsets stay resident), got {budget / 2**20:.1f} MiB; pass a larger one."
        )
    return budget - resident


@dataclass(frozen=True, slots=True)
class IndexStats:
    """An open index in figures."""

    documents: int
    deleted: int
    """Documents that are deleted and still on disk, until compaction."""
    tokens: int
    """Stored vectors, those of deleted documents too."""
    generation: int
    segments: int
    centroids: int
    dim: int
    bits: int
    budget: int
    """Bytes of memory that the index may keep."""
    resident: Mapping[str, int]
    """Bytes of memory in use, by part; `cache` is reserved whole at open."""
    cache: Mapping[str, int]
    """Counters of the block cache since open."""
    disk: Mapping[str, int]
    """Bytes on disk, by part."""
    record_bytes_per_token: float
    """Bytes of a stored vector that a search reads."""

    @classmethod
    def of(cls, manifest: Manifest, snapshot: Snapshot, budget: int) -> IndexStats:
        """The figures of an open index."""
        resident = {"codebook": snapshot.codebook.resident_bytes, "workspace": WORKSPACE}
        disk = {"codebook": sum(size for size, _ in manifest.codebook_files.values()), **dict.fromkeys(PARTS, 0)}
        for segment in snapshot.segments:
            _add(resident, segment.resident_bytes)
        _add(resident, {"tombstones": snapshot.live.nbytes})
        for info in manifest.segments:
            _add(disk, info.bytes_by_part)
        of_cache = snapshot.store.resident_bytes
        del of_cache["checksums"]  # the segments' own arrays, counted above
        _add(resident, {f"cache {part}": size for part, size in of_cache.items()})
        return cls(
            documents=manifest.documents,
            deleted=sum(each.deleted for each in manifest.tombstones.values()),
            tokens=manifest.tokens,
            generation=manifest.generation,
            segments=len(manifest.segments),
            centroids=snapshot.codebook.n_centroids,
            dim=manifest.dim,
            bits=manifest.bits,
            budget=budget,
            resident=resident,
            cache=asdict(snapshot.store.counters),
            disk=disk,
            record_bytes_per_token=disk["records"] / max(1, manifest.tokens),
        )

    @property
    def resident_bytes(self) -> int:
        """All parts together; never more than the budget."""
        return sum(self.resident.values())

    def as_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {**asdict(self), "resident_bytes": self.resident_bytes}


def _add(total: dict[str, int], parts: Mapping[str, int]) -> None:
    for part, size in parts.items():
        total[part] = total.get(part, 0) + size
