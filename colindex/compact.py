"""Compaction: the same documents in fewer segments, and nothing left of those that were deleted.

1. *Plan*: from the sizes of the segments and what is deleted in them, which neighbours are written anew, and into how many
   (`colindex.compaction_plan`).
2. *Space*: refuse early what would fill the disk: new segments are there before old ones go.
3. *Merge*, run by run: read what is not deleted piece by piece, every block and entry against its checksum
   (`colindex.storage.scanning`), and append it to new segments. Records are copied as they are, so no score changes.
4. *Commit* each run by itself: its new segments take the place of the old ones in their order, its tombstones go, its ids
   move, all in one transaction. Then the old files are removed, but for those that a reader still holds.

With `retrain` all documents get new records by a new codebook instead, in one commit (`colindex.retrain`).

The writer's lock is held from the plan to the last commit; readers search the generation that they have. A crash leaves the last
generation as it was: the runs that were committed stay done, and the next compaction does the others.

Memory: a piece of documents, and what `SegmentWriter` keeps of one new segment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from colindex.change import writing
from colindex.codebook import Codebook
from colindex.compaction_plan import Stored, cut, plan
from colindex.compaction_report import CompactReport, Rewrite, foreseen, report, stored_segment
from colindex.params import BuildParams
from colindex.progress import Progress, Report, silent
from colindex.records import RecordLayout
from colindex.retrain import retrain_index
from colindex.segmenting import append_part
from colindex.storage.catalog import Catalog
from colindex.storage.directory import require_space
from colindex.storage.layout import codebook_path
from colindex.storage.manifest import Manifest
from colindex.storage.pins import remove_strays
from colindex.storage.plain import read_arrays
from colindex.storage.scanning import Part, deleted_documents, scan
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import SegmentInfo, SegmentReader
from colindex.types import TextEncoder

__all__ = ["CompactReport", "Rewrite", "compact"]


def compact(
    path: Path,
    *,
    full: bool = False,
    retrain: bool = False,
    encoder: TextEncoder | None = None,
    dry_run: bool = False,
    progress: Report = silent,
) -> CompactReport:
    """Merge segments of the index at `path` and drop what is deleted.

    Args:
        path: the folder of the index.
        full: as few segments as there can be, and no deleted document left; otherwise what pays (`colindex.compaction_plan`).
        retrain: learn a new codebook from the documents that are left, and code all of them anew. Scores change.
        encoder: retrains an index of texts from its texts, as a build would; without it, and for an index of vectors, the
            stored vectors are decoded and coded once more, which loses what the codes lose (`colindex.retrain`).
        dry_run: tell what it would do, and write nothing.
        progress: told of documents as they are written.

    Raises:
        CorruptIndexError: bytes that were to be copied are not those that were written; the index stays as it is.
        EncoderMismatchError: the encoder is not the one that the index was built with.
        DiskSpaceError, IndexLockedError, IndexNotFoundError, IndexNotBuiltError
    """
    start = time.perf_counter()
    with writing(path) as catalog:
        before = manifest = catalog.manifest()
        stored = [stored_segment(path, manifest, info) for info in manifest.segments]
        retrain = retrain and any(each.tokens for each in stored)  # there is nothing to learn from: only tidy up
        rewrites = _planned(manifest, stored, full=full, retrain=retrain)
        if dry_run:
            after = len(manifest.segments) + sum(len(each.outputs) - len(each.segments) for each in rewrites)
            return report(manifest, manifest, rewrites, after, start, dry_run=True)
        require_space(path, max((each.bytes_written for each in rewrites), default=0), "compacting")
        if retrain:
            manifest = retrain_index(path, catalog, encoder, progress)
            remove_strays(path, manifest)
            done = [_written(rewrites[0], manifest.segments)]
        else:
            manifest, done = _merge_all(path, catalog, manifest, rewrites, progress)
    return report(before, manifest, done, len(manifest.segments), start, dry_run=False)


def _planned(manifest: Manifest, stored: Sequence[Stored], *, full: bool, retrain: bool) -> list[Rewrite]:
    """Step 1."""
    segment_tokens = BuildParams.of_index(manifest.params).segment_tokens
    if retrain:
        return [foreseen(manifest.segments, stored, cut(stored, segment_tokens))]
    return [
        foreseen(manifest.segments[run.first : run.stop], stored[run.first : run.stop], run.outputs)
        for run in plan(stored, segment_tokens, full=full)
    ]


def _merge_all(
    path: Path, catalog: Catalog, manifest: Manifest, rewrites: Sequence[Rewrite], progress: Report
) -> tuple[Manifest, list[Rewrite]]:
    """Steps 3 and 4: the last manifest, and what was written."""
    codebook = Codebook.from_arrays(*read_arrays(codebook_path(path, manifest.codebook), manifest.codebook_files))
    done: list[Rewrite] = []
    for number, rewrite in enumerate(rewrites):
        counted = _counted(progress, rewrites, number)
        manifest, infos = _carry_out(path, catalog, manifest, codebook.layout, rewrite, counted)
        done.append(_written(rewrite, infos))
    return manifest, done


def _written(rewrite: Rewrite, infos: Sequence[SegmentInfo]) -> Rewrite:
    outputs = tuple(info.documents for info in infos)
    return replace(rewrite, outputs=outputs, bytes_written=sum(info.bytes for info in infos))


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
            yield from scan(SegmentReader(path, info), deleted_documents(path, manifest, info))


def _places(path: Path, infos: Sequence[SegmentInfo]) -> Iterator[tuple[str, int, int]]:
    """Where each id is in the new segments, as they are on disk."""
    for info in infos:
        for document, id_ in enumerate(SegmentReader(path, info).external_ids(range(info.documents))):
            yield id_, int(info.name), document


def _counted(progress: Report, rewrites: Sequence[Rewrite], number: int) -> Report:
    """Progress of one run as that of all of them."""
    before, total = sum(each.documents for each in rewrites[:number]), sum(each.documents for each in rewrites)
    return lambda step: progress(replace(step, done=before + step.done, total=total))
