"""Changes to an index that is there: documents in, documents out. Each is one commit, or nothing.

Adding (and upserting, which replaces)
1. *Ingest*: read every document once into a spool beside the index, checking content and ids before any costly work.
2. *Locate*: look each id up. One that is there is an error, or with `replace` a document to be deleted in the same commit.
3. *Expand*: where the index has become large for its centroids, learn more of them from what is added, behind the ones that there
   are (`colindex.growth`): old segments stay as they are.
4. *Encode*: get the vectors, pooled, code them into new segments, and measure how far they lie from what the codebook was learned
   from (`colindex.drift`).
5. *Commit*: name the new segments, the codebook and the tombstones in one catalog transaction.

Deleting
1. *Locate* each id; one that is not there is an error, unless `missing_ok`. A condition is evaluated here too, by the writer.
2. *Mark*: write new tombstones for the segments that lose documents: bytes in proportion to those segments, not to the index.
3. *Commit*.

A crash leaves the last generation as it was and files that nothing names, which the next writer removes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colindex.codebook import Codebook
from colindex.drift import Drift
from colindex.errors import (
    DiskSpaceError,
    DocumentNotFoundError,
    DuplicateIdError,
    EncoderMismatchError,
    IndexLockedError,
    IndexReadOnlyError,
)
from colindex.fingerprint import fingerprint_difference
from colindex.growth import grown
from colindex.progress import Progress, Report, Rising, silent
from colindex.segmenting import BESIDE_THE_RECORD, First, new_ids, write_segments
from colindex.sources import Ingested, Source
from colindex.spool import Spool
from colindex.storage.catalog import Catalog
from colindex.storage.directory import remove_tree, require_space
from colindex.storage.layout import codebook_path, next_codebook
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import Manifest
from colindex.storage.pins import remove_strays
from colindex.storage.plain import read_arrays, write_arrays
from colindex.storage.segments import SegmentInfo
from colindex.storage.tombstones import Tombstones, read_tombstones, write_tombstones

__all__ = ["ChangeReport", "add", "check_source", "delete", "tidy", "writing"]

SPOOL = "adding"
_SHOWN = 5

Places = dict[int, list[int]]
"""Documents by the number of their segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeReport:
    """What a change did, or with `dry_run` would do."""

    generation: int
    """The generation that it committed."""
    documents: int
    """Documents of that generation that are not deleted."""
    added: int = 0
    """Documents whose ids were new."""
    replaced: int = 0
    """Documents that took the place of others."""
    deleted: int = 0
    """Documents that were deleted, those that were replaced apart."""
    tokens: int = 0
    """Stored vectors that were written; in a dry run of texts an estimate."""
    bytes: int = 0
    """Bytes of the files that were written; in a dry run an estimate."""
    centroids: int = 0
    """Centroids that were learned from what was added."""
    advice: str | None = None
    """What to do where what was added lies far from what the codebook was learned from, or is a multiple of it; else None."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each stage."""
    dry_run: bool = False


def add(
    path: Path, source: Source, *, replace: bool = False, dry_run: bool = False, progress: Report = silent
) -> ChangeReport:
    """Add the documents of a source to the index at `path`.

    Raises:
        DuplicateIdError: an id is in the index, unless `replace`, or comes twice.
        EncoderMismatchError: the index was built by another encoder, or from vectors.
        CorpusError, InputError, InvalidIdError, VectorError: bad documents.
        DiskSpaceError, IndexLockedError, IndexReadOnlyError, IndexNotFoundError, IndexNotBuiltError, CorruptIndexError
    """
    seconds: dict[str, float] = {}
    with writing(path) as catalog, _spool(path) as spool:
        manifest = catalog.manifest()
        check_source(path, manifest, source)
        codebook = Codebook.from_arrays(*read_arrays(codebook_path(path, manifest.codebook), manifest.codebook_files))
        with _timed(seconds, "ingest"):
            ingested = source.ingest(spool, progress)
        with _timed(seconds, "locate"):
            replaced = _located(path, catalog, spool, replace=replace)
        needed = ingested.tokens * (codebook.layout.record_bytes + BESIDE_THE_RECORD)
        require_space(path, needed, "adding these documents")
        if dry_run:
            return _foreseen(manifest, ingested, replaced, needed, seconds)
        with _timed(seconds, "expand"):
            expanded, codebook_files = _expanded(path, manifest, source, spool, codebook, ingested, progress)
        with _timed(seconds, "encode"):
            segments, drift = _segments(path, manifest, source, spool, expanded, ingested, progress)
        with _timed(seconds, "commit"):
            following = manifest.next(
                segments=(*manifest.segments, *segments),
                next_segment=manifest.next_segment + len(segments),
                tombstones=_tombstones(path, manifest, replaced),
                drift=drift.to_json(),
                **codebook_files,
            )
            catalog.commit(following, new_ids(spool, segments))
    progress(Progress("commit", ingested.documents, ingested.documents))
    count = _count(replaced)
    return ChangeReport(
        generation=following.generation,
        documents=following.documents,
        added=ingested.documents - count,
        replaced=count,
        tokens=sum(info.tokens for info in segments),
        bytes=sum(info.bytes for info in segments),
        centroids=len(expanded.centroids) - len(codebook.centroids),
        advice=drift.advice(following.tokens),
        seconds=seconds,
    )


def delete(
    path: Path,
    ids: Iterable[str] = (),
    *,
    where: str | None = None,
    missing_ok: bool = False,
    dry_run: bool = False,
) -> ChangeReport:
    """Delete documents of the index at `path`: those with some ids, and those that meet a condition on metadata.

    Raises:
        DocumentNotFoundError: an id is not in the index, unless `missing_ok`.
        FilterError: `where` is no condition on the metadata of this index.
        InvalidIdError: an id that no index can hold.
        DiskSpaceError, IndexLockedError, IndexReadOnlyError, IndexNotFoundError, IndexNotBuiltError, CorruptIndexError
    """
    seconds: dict[str, float] = {}
    with writing(path) as catalog:
        manifest = catalog.manifest()
        with _timed(seconds, "locate"):
            wanted = dict.fromkeys(ids)
            if where is not None:
                from colindex.filters import matching

                wanted |= dict.fromkeys(matching(path, manifest, where))
            located = zip(wanted, catalog.locate_each(wanted), strict=True)
            found = {id_: place for id_, place in located if place is not None}
            if len(found) < len(wanted) and not missing_ok:
                raise _not_found(path, [id_ for id_ in wanted if id_ not in found])
            places: Places = defaultdict(list)
            for segment, document in found.values():
                places[segment].append(document)
        if not found or dry_run:
            return ChangeReport(
                generation=manifest.generation,
                documents=manifest.documents - len(found),
                deleted=len(found),
                dry_run=dry_run,
                seconds=seconds,
            )
        with _timed(seconds, "commit"):
            following = manifest.next(tombstones=_tombstones(path, manifest, places))
            catalog.commit(following, (), found)
    written = [each for name, each in following.tombstones.items() if each != manifest.tombstones.get(name)]
    return ChangeReport(
        generation=following.generation,
        documents=following.documents,
        deleted=len(found),
        bytes=sum(sum_.bytes for each in written for sum_ in each.files.values()),
        seconds=seconds,
    )


@contextmanager
def writing(path: Path) -> Iterator[Catalog]:
    """The right to write the index at `path`, and its catalog; before and after, what no generation names is removed.

    Raises:
        IndexNotFoundError, IndexNotBuiltError, IndexLockedError, CorruptIndexError, FormatTooNewError
    """
    Catalog.open_reader(path).close()  # so that nothing is made where there is no index
    with WriterLock(path), Catalog.open_writer(path) as catalog:
        remove_strays(path, catalog.manifest())
        yield catalog
        remove_strays(path, catalog.manifest())


def tidy(path: Path) -> None:
    """Remove what only earlier generations name and no reader holds any more, unless somebody is writing."""
    with suppress(DiskSpaceError, IndexLockedError, IndexReadOnlyError), writing(path):
        pass


@contextmanager
def _spool(path: Path) -> Iterator[Spool]:
    spool = Spool(path / SPOOL)
    spool.create()
    try:
        yield spool
    finally:
        remove_tree(spool.folder)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def check_source(path: Path, manifest: Manifest, source: Source) -> None:
    """Raise EncoderMismatchError unless the index was built from such a source."""
    if (manifest.encoder is None) != (source.fingerprint is None):
        built, given = ("vectors", "texts") if manifest.encoder is None else ("texts", "vectors")
        raise EncoderMismatchError(f"{path}: expected {built}, which this index was built from, got {given}.")
    if manifest.encoder is not None and source.fingerprint is not None:
        difference = fingerprint_difference(manifest.encoder, source.fingerprint)
        if difference:
            raise EncoderMismatchError(
                f"{path}: the encoder is not the one that the index was built with: {difference}. "
                "Load the encoder of the index, or build a new index with this one."
            )


def _located(path: Path, catalog: Catalog, spool: Spool, *, replace: bool) -> Places:
    """Where the spool's ids are in the index already."""
    places: Places = defaultdict(list)
    for chunk in range(spool.chunk_count()):
        ids = spool.ids(chunk)
        for id_, place in zip(ids, catalog.locate_each(ids), strict=True):
            if place is None:
                continue
            if not replace:
                raise DuplicateIdError(
                    f"{path}: expected new ids, got {id_!r}, which is in the index; replace it with upsert "
                    "(`colindex add --upsert`), or leave it out."
                )
            places[place[0]].append(place[1])
    return places


def _expanded(
    path: Path,
    manifest: Manifest,
    source: Source,
    spool: Spool,
    codebook: Codebook,
    ingested: Ingested,
    progress: Report,
) -> tuple[Codebook, dict[str, Any]]:
    """Step 3: the codebook to code with, and what the manifest says of it if it is a new one."""
    expanded = grown(
        source,
        spool,
        codebook,
        documents=ingested.documents,
        before=manifest.tokens,
        added=ingested.tokens,
        report=progress,
    )
    if expanded is codebook:
        return codebook, {}
    name = next_codebook(manifest.codebook)
    files = write_arrays(codebook_path(path, name), *expanded.to_arrays())
    return expanded, {"codebook": name, "codebook_files": files}


def _segments(
    path: Path,
    manifest: Manifest,
    source: Source,
    spool: Spool,
    codebook: Codebook,
    ingested: Ingested,
    progress: Report,
) -> tuple[list[SegmentInfo], Drift]:
    """Step 4: the new segments, and the drift of everything that was added since the codebook was trained."""
    sealed = []
    drift = Drift.none(codebook, manifest.tokens) if manifest.drift is None else Drift.from_json(manifest.drift)
    told, first = Rising("encode", ingested.documents, progress), First(segment=manifest.next_segment)
    for step in write_segments(path, source, spool, codebook, first=first, told=told, drifting=True):
        drift = drift if step.drift is None else drift.merged(step.drift)
        if step.sealed is not None:
            sealed.append(step.sealed)
    return sealed, drift


def _tombstones(path: Path, manifest: Manifest, places: Places) -> dict[str, Tombstones]:
    """The tombstones of the next generation: new ones for the segments that lose documents."""
    tombstones = dict(manifest.tombstones)
    for info in manifest.segments:
        if lost := places.get(int(info.name)):
            old = tombstones.get(info.name)
            before = set() if old is None else set(read_tombstones(path, old, info.documents).tolist())
            tombstones[info.name] = write_tombstones(
                path, info.name, manifest.generation + 1, info.documents, before | set(lost)
            )
    return tombstones


def _foreseen(
    manifest: Manifest, ingested: Ingested, replaced: Places, needed: int, seconds: Mapping[str, float]
) -> ChangeReport:
    count = _count(replaced)
    return ChangeReport(
        generation=manifest.generation,
        documents=manifest.documents + ingested.documents - count,
        added=ingested.documents - count,
        replaced=count,
        tokens=ingested.tokens,
        bytes=needed,
        seconds=seconds,
        dry_run=True,
    )


def _count(places: Places) -> int:
    return sum(len(documents) for documents in places.values())


def _not_found(path: Path, ids: list[str]) -> DocumentNotFoundError:
    shown = ", ".join(map(repr, ids[:_SHOWN])) + (f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else "")
    return DocumentNotFoundError(
        f"{path}: expected ids that are in the index, got {shown}; nothing was deleted. Check them, or pass missing_ok "
        "(`colindex delete --missing-ok`)."
    )
