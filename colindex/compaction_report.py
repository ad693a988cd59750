"""What a compaction did or would do: which segments it writes anew, and how many bytes it reads, writes and frees."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colindex.compaction_plan import Stored
from colindex.storage.manifest import Manifest
from colindex.storage.plain import read_plain, within
from colindex.storage.scanning import deleted_documents, inspection_columns
from colindex.storage.segments import SegmentInfo, segment_path

__all__ = ["CompactReport", "Rewrite", "foreseen", "report", "stored_segment"]

_OVERHEAD_BYTES = 64 << 10
"""Of a segment, beside its arrays: what describes them."""
_STARTS = "postings/offsets/c/0"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Neighbouring segments that are written anew."""

    segments: tuple[str, ...]
    """Their names, in order."""
    documents: int
    """Documents that stay."""
    dropped: int
    """Deleted documents, whose bytes go."""
    outputs: tuple[int, ...]
    """Documents of each new segment; none where nothing is left."""
    bytes_read: int
    """Bytes of the segments, which are freed as well once no reader holds them."""
    bytes_written: int
    """Bytes of the new segments: an estimate before they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactReport:
    """What a compaction did, or with `dry_run` would do."""

    generation: int
    """The newest generation afterwards; each run commits one."""
    segments_before: int
    segments_after: int
    documents: int
    """Documents of the index that are not deleted: as many as before."""
    dropped: int
    """Deleted documents whose bytes went."""
    bytes_read: int
    bytes_written: int
    """Bytes of the new segments; in a dry run an estimate."""
    bytes_freed: int
    """Bytes of the segments, tombstones and codebook that are named no more; they are gone once no reader holds them."""
    seconds: float
    dry_run: bool
    runs: tuple[Rewrite, ...]
    """What was written anew, in order."""


def stored_segment(path: Path, manifest: Manifest, info: SegmentInfo) -> Stored:
    """A segment as the plan sees it."""
    offsets = read_plain(segment_path(path, info.name) / "offsets", within(info.files, "offsets"))
    lengths = np.delete(np.diff(offsets), deleted_documents(path, manifest, info)).astype(np.uint32)
    return Stored(lengths, manifest.deleted(info.name), inspection_columns(info.files))


def foreseen(infos: Sequence[SegmentInfo], stored: Sequence[Stored], outputs: tuple[int, ...]) -> Rewrite:
    """What writing some segments anew comes to, into segments of these many documents."""
    starts = max(info.files[_STARTS].bytes for info in infos)  # as long in every segment, however few its documents
    copied = sum(
        (info.bytes - info.files[_STARTS].bytes) * _share(info, each) for info, each in zip(infos, stored, strict=True)
    )
    return Rewrite(
        segments=tuple(info.name for info in infos),
        documents=sum(each.documents for each in stored),
        dropped=sum(each.deleted for each in stored),
        outputs=outputs,
        bytes_read=sum(info.bytes for info in infos),
        bytes_written=round(copied) + len(outputs) * (starts + _OVERHEAD_BYTES),
    )


def _share(info: SegmentInfo, stored: Stored) -> float:
    """How much of a segment is left, by documents or by vectors, whichever is more."""
    return max(stored.documents / info.documents, stored.tokens / max(1, info.tokens))


def report(
    before: Manifest, after: Manifest, rewrites: Sequence[Rewrite], segments: int, start: float, *, dry_run: bool
) -> CompactReport:
    """The report of some rewrites, that were done or would be, since `start`."""
    gone = {name for each in rewrites for name in each.segments}
    tombstones = (sum_ for name, each in before.tombstones.items() if name in gone for sum_ in each.files.values())
    read = sum(each.bytes_read for each in rewrites)
    codebook = 0 if after.codebook == before.codebook else sum(sum_.bytes for sum_ in before.codebook_files.values())
    return CompactReport(
        generation=after.generation,
        segments_before=len(before.segments),
        segments_after=segments,
        documents=after.documents,
        dropped=sum(each.dropped for each in rewrites),
        bytes_read=read,
        bytes_written=sum(each.bytes_written for each in rewrites),
        bytes_freed=read + codebook + sum(sum_.bytes for sum_ in tombstones),
        seconds=time.perf_counter() - start,
        dry_run=dry_run,
        runs=tuple(rewrites),
    )
