"""Verification: everything an index says about itself, held against its bytes.

1. The catalog: its file as the guard sees it (`lmdb_guard.py`: record of the last commit, or page structure), then the check
   of every value, then the manifest, and its copy beside the catalog.
2. Files: each one that the manifest names is there, with its length and its xxh3_128; no others are in the folder.
3. Segments, those whose files are sound: the parts agree with each other (`verify_segments.py`), and tombstones are of documents
   that there are.
4. Ids, both ways: the external id of each document that is not deleted leads to it in the catalog, and each id in the catalog is
   that of one such document.

Nothing is repaired, and nothing stops at the first finding. Memory: 8 bytes for each posting of one segment at a time, and a
bit a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colindex.storage.catalog import Catalog, catalog_path
from colindex.storage.checksums import FileSum, file_sum
from colindex.storage.errors import CorruptIndexError
from colindex.storage.layout import codebook_path, stray_paths
from colindex.storage.manifest import Manifest
from colindex.storage.manifest_copy import COPY, read_manifest_copy
from colindex.storage.segments import SegmentInfo, SegmentReader, segment_path
from colindex.storage.tombstones import read_tombstones, tombstones_path
from colindex.storage.verify_segments import segment_problems

__all__ = ["Finding", "folder_findings", "verify_index"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was committed."""

    path: Path
    """The file, or the folder of a part."""
    kind: str
    """`missing`, `unexpected`, `size`, `checksum`, `catalog`, `copy`, `segment` or `ids`."""
    expected: str
    got: str
    message: str
    """All of it in a sentence, with the way out."""

    @property
    def harmless(self) -> bool:
        """Whether it changes no answer: something that no generation names, which the next writer removes."""
        return self.kind == "unexpected"


def verify_index(index_path: Path) -> list[Finding]:
    """Check every byte of an index at its latest generation; an empty list means that all is well.

    Raises:
        IndexNotFoundError: there is no index.
        IndexNotBuiltError: nothing was committed yet.
        FormatTooNewError: a newer colindex wrote it.
    """
    index_path = Path(index_path)
    try:
        catalog = Catalog.open_reader(index_path)
    except CorruptIndexError as error:
        return [_problem(catalog_path(index_path), "catalog", str(error))]
    with catalog:
        manifest = catalog.manifest()
        findings = [*_copy_findings(index_path, manifest), *_file_findings(index_path, manifest)]
        damaged = {finding.path for finding in findings}
        sound = [s for s in manifest.segments if not _holds(segment_path(index_path, s.name), damaged)]
        for segment in sound:
            findings += _segment_findings(index_path, segment)
        deleted: dict[str, NDArray[np.int64] | None] = {}
        for segment in manifest.segments:
            deleted[segment.name] = _deleted(index_path, manifest, segment)
        findings += _id_findings(index_path, catalog, sound, deleted)
    return findings


def _copy_findings(index_path: Path, manifest: Manifest) -> Iterator[Finding]:
    """The copy of the manifest: of an earlier generation after a crash, of a newer one while somebody commits."""
    path = index_path / COPY
    try:
        copy = read_manifest_copy(index_path)
    except CorruptIndexError as error:
        yield _problem(path, "copy", str(error))
        return
    if copy is None:
        return
    expected, got = f"generation {manifest.generation}", f"generation {copy.generation}"
    if copy.generation < manifest.generation:
        yield Finding(path, "unexpected", expected, got, f"{path}: of {got}; the next writer writes it anew.")
    elif copy.generation == manifest.generation and copy != manifest:
        yield _finding(path, "copy", "the manifest of the catalog", "another")


def _deleted(index_path: Path, manifest: Manifest, segment: SegmentInfo) -> NDArray[np.int64] | None:
    """The deleted documents of a segment; None where its tombstones cannot be read, which is a finding already."""
    if segment.name not in manifest.tombstones:
        return np.empty(0, np.int64)
    try:
        return read_tombstones(index_path, manifest.tombstones[segment.name], segment.documents)
    except CorruptIndexError:
        return None


def _holds(folder: Path, paths: set[Path]) -> bool:
    return any(folder in path.parents for path in paths)


def _file_findings(index_path: Path, manifest: Manifest) -> Iterator[Finding]:
    """Step 2."""
    yield from folder_findings(codebook_path(index_path, manifest.codebook), manifest.codebook_files)
    for segment in manifest.segments:
        yield from folder_findings(segment_path(index_path, segment.name), segment.files)
    for each in manifest.tombstones.values():
        yield from folder_findings(tombstones_path(index_path, each.name), each.files)
    for path in stray_paths(index_path, manifest):
        message = f"{path}: no generation names it; it harms nobody, and the next writer removes it."
        yield Finding(path, "unexpected", "no such file", "one", message)


def folder_findings(folder: Path, files: Mapping[str, FileSum]) -> Iterator[Finding]:
    """What is wrong with the files of one folder."""
    for name, expected in sorted(files.items()):
        try:
            got = file_sum(folder / name)
        except OSError as error:
            reason = error.strerror or "an error"
            yield _finding(folder / name, "missing", f"{expected.bytes:,} bytes", reason)
            continue
        if got.bytes != expected.bytes:
            yield _finding(folder / name, "size", f"{expected.bytes:,} bytes", f"{got.bytes:,}")
        elif got != expected:
            yield _finding(folder / name, "checksum", f"xxh3_128 {expected.xxh3_128}", got.xxh3_128)


def _segment_findings(index_path: Path, info: SegmentInfo) -> Iterator[Finding]:
    """Step 3."""
    path = segment_path(index_path, info.name)
    try:
        reader = SegmentReader(index_path, info)
    except CorruptIndexError as error:
        yield _problem(path, "segment", str(error))
        return
    for part, expected, got in segment_problems(reader):
        yield _finding(path / part, "segment", expected, got)


def _id_findings(
    index_path: Path, catalog: Catalog, segments: list[SegmentInfo], deleted: Mapping[str, NDArray[np.int64] | None]
) -> Iterator[Finding]:
    """Step 4. Each live document's id leads to it; if no two ids lead to one document, then every id is that of a document."""
    path = catalog_path(index_path)
    led_to = {int(s.name): np.zeros(s.documents, np.bool_) for s in catalog.manifest().segments}
    for name, documents in deleted.items():
        led_to[int(name)][[] if documents is None else documents] = True
    try:
        for id, number, document in catalog.ids():
            place = f"document {document} of segment {number}"
            if number not in led_to or document >= len(led_to[number]):
                yield _finding(path, "ids", f"id {id!r} to lead to a document", f"{place}, which there is not")
            elif led_to[number][document]:
                yield _finding(path, "ids", f"one id for {place}, and none if it is deleted", f"{id!r}")
            else:
                led_to[number][document] = True
    except CorruptIndexError as error:
        yield _problem(path, "catalog", str(error))
    for segment in segments:
        if (gone := deleted[segment.name]) is not None:
            yield from _lost_ids(index_path, catalog, segment, set(gone.tolist()))


def _lost_ids(index_path: Path, catalog: Catalog, segment: SegmentInfo, deleted: set[int]) -> Iterator[Finding]:
    path = segment_path(index_path, segment.name) / "ids"
    reader = SegmentReader(index_path, segment)
    for document in range(segment.documents):
        try:
            (id,) = reader.external_ids([document])
            place = catalog.locate(id)
        except CorruptIndexError as error:
            yield _problem(path, "ids", str(error))
            continue
        if document not in deleted and place != (expected := (int(segment.name), document)):
            yield _finding(path, "ids", f"the catalog to lead {id!r} to (segment, document) {expected}", str(place))


def _finding(path: Path, kind: str, expected: str, got: str) -> Finding:
    message = (
        f"{path}: expected {expected}, got {got}; restore it from a copy, or keep what is sound with `verify --repair`."
    )
    return Finding(path, kind, expected, got, message)


def _problem(path: Path, kind: str, message: str) -> Finding:
    """A finding whose message an error has written already."""
    return Finding(path, kind, "sound bytes", "an error", message)
