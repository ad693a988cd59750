"""Compaction: the same documents in fewer segments, and nothing left of those that were deleted.

1. *Plan*: from the sizes of the segments and what is deleted in them, which neighbours are written anew, and into how many
   (`colindex.compaction_plan`).
2. *Space*: refuse early what would fill the disk: new segments are there before old ones go.
3. *Merge*, run by run: read what is not deleted piece by piece, every block and entry against its checksum
   (`colindex.storage.scanning`), and append it to new segments. Records are copied as they are, so no score changes.
4. *Commit* each run by itself: its new segments take the place of the old ones in their order, its tombstones go, its ids
   move, all in one transaction. Then the old files are removed, but for those that a reader still holds.

The writer's lock is held from the plan to the last commit; readers search the generation that they have. A crash leaves the last
generation as it was: the runs that were committed stay done, and the next compaction does the others.

Memory: a piece of documents, and what `SegmentWriter` keeps of one new segment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colindex.change import writing
from colindex.codebook import Codebook
from colindex.compaction_plan import Stored, plan
from colindex.params import BuildParams
from colindex.progress import Progress, Report, silent
from colindex.records import RecordLayout
from colindex.segmenting import append_part
from colindex.storage.catalog import Catalog
from colindex.storage.directory import require_space
from colindex.storage.layout import codebook_path
from colindex.storage.manifest import Manifest
from colindex.storage.pins import remove_strays
from colindex.storage.plain import read_arrays, read_plain, within
from colindex.storage.scanning import Part, inspection_columns, scan
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import SegmentInfo, SegmentReader, segment_path
from colindex.storage.tombstones import read_tombstones

__all__ = ["CompactReport", "Rewrite", "compact"]

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
    """Bytes of the segments and tombstones that are named no more; they are gone once no reader holds them."""
    seconds: float
    dry_run: bool
    runs: tuple[Rewrite, ...]
    """What was written anew, in order."""


def compact(path: Path, *, full: bool = False, dry_run: bool = False, progress: Report = silent) -> CompactReport:
    """Merge segments of the index at `path` and drop what is deleted.

    Args:
        path: the folder of the index.
        full: as few segments as there can be, and no deleted document left; otherwise what pays (`colindex.compaction_plan`).
        dry_run: tell what it would do, and write nothing.
        progress: told of documents as they are written.

    Raises:
        CorruptIndexError: bytes that were to be copied are not those that were written; the index stays as it is.
        DiskSpaceError, IndexLockedError, IndexNotFoundError, IndexNotBuiltError
    """
    start = time.perf_counter()
    with writing(path) as catalog:
        before = manifest = catalog.manifest()
        rewrites = _planned(path, manifest, full)
        if dry_run:
            after = len(manifest.segments) + sum(len(each.outputs) - len(each.segments) for each in rewrites)
            return _report(manifest, manifest, rewrites, after, start, dry_run=True)
        require_space(path, max((each.bytes_written for each in rewrites), default=0), "compacting")
        codebook = Codebook.from_arrays(*read_arrays(codebook_path(path, manifest.codebook), manifest.codebook_files))
        done: list[Rewrite] = []
        for number, rewrite in enumerate(rewrites):
            counted = _counted(progress, rewrites, number)
            manifest, infos = _carry_out(path, catalog, manifest, codebook.layout, rewrite, counted)
            done.append(replace(rewrite, bytes_written=sum(info.bytes for info in infos)))
    return _report(before, manifest, done, len(manifest.segments), start, dry_run=False)


def _planned(path: Path, manifest: Manifest, full: bool) -> list[Rewrite]:
    """Step 1."""
    params = BuildParams.of_index(manifest.params)
    stored = [_stored(path, manifest, info) for info in manifest.segments]
    return [
        _rewrite(manifest.segments[run.first : run.stop], stored[run.first : run.stop], run.outputs)
        for run in plan(stored, params.segment_tokens, full=full)
    ]


def _stored(path: Path, manifest: Manifest, info: SegmentInfo) -> Stored:
    """A segment as the plan sees it."""
    offsets = read_plain(segment_path(path, info.name) / "offsets", within(info.files, "offsets"))
    lengths = np.delete(np.diff(offsets), _deleted(path, manifest, info)).astype(np.uint32)
    return Stored(lengths, manifest.deleted(info.name), inspection_columns(info.files))


def _rewrite(infos: Sequence[SegmentInfo], stored: Sequence[Stored], outputs: tuple[int, ...]) -> Rewrite:
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


def _carry_out(
    path: Path, catalog: Catalog, manifest: Manifest, layout: RecordLayout, rewrite: Rewrite, progress: Report
) -> tuple[Manifest, list[SegmentInfo]]:
    """Steps 3 and 4 of one run: the manifest that was committed, and its new segments."""
    require_space(path, rewrite.bytes_written, f"compacting segments {', '.join(rewrite.segments)}")
    infos = _merged(path, manifest, layout, rewrite, progress)
    first = [info.name for info in manifest.segments].index(rewrite.segments[0])
    following = manifest.next(
        segments=(*manifest.segments[:first], *infos, *manifest.segments[first + len(rewrite.segments) :]),
        next_segment=manifest.next_segment + len(infos),
        tombstones={name: each for name, each in manifest.tombstones.items() if name not in rewrite.segments},
    )
    catalog.commit(following, _places(path, infos))
    remove_strays(path, following)
    return following, infos


def _merged(
    path: Path, manifest: Manifest, layout: RecordLayout, rewrite: Rewrite, progress: Report
) -> list[SegmentInfo]:
    """Step 3: the new segments of one run, durable."""
    parts, infos, done = _live_parts(path, manifest, rewrite.segments), [], 0
    rest: Part | None = None
    sizes = {"record_bytes": layout.record_bytes, "n_centroids": layout.n_centroids}
    for number, documents in enumerate(rewrite.outputs, manifest.next_segment):
        with SegmentWriter(path, f"{number:06d}", **sizes) as writer:
            while writer.n_documents < documents:
                part, rest = (next(parts) if rest is None else rest), None
                if len(part) > (room := documents - writer.n_documents):
                    part, rest = part.split(room)
                append_part(writer, part)
                done += len(part)
                progress(Progress("compact", done, rewrite.documents))
            infos.append(writer.seal())
    return infos


def _live_parts(path: Path, manifest: Manifest, names: Sequence[str]) -> Iterator[Part]:
    """What is not deleted in some segments, in order."""
    for info in manifest.segments:
        if info.name in names:
            yield from scan(SegmentReader(path, info), _deleted(path, manifest, info))


def _deleted(path: Path, manifest: Manifest, info: SegmentInfo) -> NDArray[np.int64]:
    if info.name not in manifest.tombstones:
        return np.empty(0, np.int64)
    return read_tombstones(path, manifest.tombstones[info.name], info.documents)


def _places(path: Path, infos: Sequence[SegmentInfo]) -> Iterator[tuple[str, int, int]]:
    """Where each id is in the new segments, as they are on disk."""
    for info in infos:
        for document, id_ in enumerate(SegmentReader(path, info).external_ids(range(info.documents))):
            yield id_, int(info.name), document


def _counted(progress: Report, rewrites: Sequence[Rewrite], number: int) -> Report:
    """Progress of one run as that of all of them."""
    before, total = sum(each.documents for each in rewrites[:number]), sum(each.documents for each in rewrites)
    return lambda step: progress(replace(step, done=before + step.done, total=total))


def _report(
    before: Manifest, after: Manifest, rewrites: Sequence[Rewrite], segments: int, start: float, *, dry_run: bool
) -> CompactReport:
    gone = {name for each in rewrites for name in each.segments}
    tombstones = (sum_ for name, each in before.tombstones.items() if name in gone for sum_ in each.files.values())
    read = sum(each.bytes_read for each in rewrites)
    return CompactReport(
        generation=after.generation,
        segments_before=len(before.segments),
        segments_after=segments,
        documents=after.documents,
        dropped=sum(each.dropped for each in rewrites),
        bytes_read=read,
        bytes_written=sum(each.bytes_written for each in rewrites),
        bytes_freed=read + sum(sum_.bytes for sum_ in tombstones),
        seconds=time.perf_counter() - start,
        dry_run=dry_run,
        runs=tuple(rewrites),
    )
