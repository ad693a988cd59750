"""A sound catalog in place of one that cannot be opened.

1. The file may be sound, and only `commit.json` not: if its pages are, and every value passes its check, and it holds as many ids
   as its manifest has documents, then it is taken as it is and described anew.
2. Otherwise the manifest comes from its copy (`manifest_copy.py`), and the ids from the segments: those of the documents that
   their tombstones do not delete. Where tombstones cannot be read either, deleted documents come back.
3. A catalog is made in a working folder first, and takes the other's place in one rename; `commit.json` follows. A crash
   between the two leaves the first case.

An older generation than the copy of the manifest or `commit.json` knows is never taken for the newest: the damage may have hidden
a commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colindex.storage import directory
from colindex.storage.catalog import Catalog, catalog_path, structural_problems
from colindex.storage.directory import corrupt, fsync_folder, write_new_file
from colindex.storage.entries import EntryReader, decode_id
from colindex.storage.errors import CorruptIndexError, IndexNotBuiltError, IndexNotFoundError, StorageError
from colindex.storage.lmdb_guard import DATA, read_commit_record, write_commit_record
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import Manifest
from colindex.storage.manifest_copy import read_manifest_copy
from colindex.storage.segments import segment_path
from colindex.storage.tombstones import read_tombstones

__all__ = ["SoundCatalog", "install_catalog", "sound_catalog"]

_REMEDY = "it cannot be repaired: restore the index from a copy, or build it again"


@dataclass(frozen=True, slots=True)
class SoundCatalog:
    """A catalog that can be opened."""

    folder: Path
    """The index itself, or the working folder: whichever holds it."""
    notes: tuple[str, ...]
    """What was done to get it, and what it cost, in sentences."""


def sound_catalog(index_path: Path, work: Path, *, may_change: bool) -> SoundCatalog:
    """Find or make a catalog of the index that can be opened; the index is only read.

    Args:
        index_path: the index.
        work: an empty folder.
        may_change: somebody else may be committing; not so for the holder of the `WriterLock`.

    Raises:
        IndexNotFoundError, IndexNotBuiltError: there is no index.
        CorruptIndexError: neither the catalog nor the copy of the manifest can be read.
    """
    try:
        with Catalog.open_reader(index_path, may_change=may_change) as catalog:
            for _ in catalog.ids():
                pass
    except (CorruptIndexError, IndexNotBuiltError, IndexNotFoundError) as error:
        if not isinstance(error, CorruptIndexError) and _copy(index_path) is None:
            raise
        damage = str(error)
    else:
        return SoundCatalog(index_path, ())
    known = _newest_known(index_path)
    if _described_anew(index_path, work / "described", known):
        note = "The catalog itself is sound; only what describes it is damaged, and is written anew."
        return SoundCatalog(work / "described", (note,))
    copy = _copy(index_path)
    if copy is None:
        raise corrupt(catalog_path(index_path), "a catalog, or a copy of the manifest", damage, _REMEDY)
    notes = [f"The catalog is damaged, and is made anew from the copy of the manifest and from the segments ({damage})"]
    if copy.generation < known:
        notes.append(f"Generation {known} is lost with it: what is left is generation {copy.generation}.")
    (work / "rebuilt").mkdir()
    with WriterLock(work / "rebuilt"), Catalog.open_writer(work / "rebuilt") as rebuilt:
        rebuilt.commit(copy, _ids(index_path, copy, notes), first=True)
    return SoundCatalog(work / "rebuilt", tuple(notes))


def install_catalog(sound: SoundCatalog, index_path: Path) -> None:
    """Put a catalog that was made in a working folder on the same disk in its place. The caller holds the `WriterLock`."""
    source, target = catalog_path(sound.folder), catalog_path(index_path)
    with Catalog.open_reader(sound.folder) as catalog:
        generation = catalog.generation
    target.mkdir(exist_ok=True)
    directory.fsync_file(source / DATA)
    directory.operations.replace(source / DATA, target / DATA)
    fsync_folder(target)
    write_commit_record(target, generation)


def _newest_known(index_path: Path) -> int:
    """The newest generation that anything beside the catalog's file knows of."""
    try:
        record = read_commit_record(catalog_path(index_path))
    except CorruptIndexError:
        record = None
    copy = _copy(index_path)
    return max(0 if record is None else record.generation, 0 if copy is None else copy.generation)


def _copy(index_path: Path) -> Manifest | None:
    try:
        return read_manifest_copy(index_path)
    except CorruptIndexError:
        return None


def _described_anew(index_path: Path, folder: Path, known: int) -> bool:
    """Step 1, on a copy of the file, so that nothing but the copy is handed to liblmdb."""
    data = catalog_path(index_path) / DATA
    if not data.is_file() or structural_problems(data):
        return False
    write_new_file(catalog_path(folder) / DATA, data.read_bytes())
    try:
        write_commit_record(catalog_path(folder), 0)
        with Catalog.open_reader(folder) as catalog:
            ids = sum(1 for _ in catalog.ids())
            return catalog.generation >= known and ids == catalog.n_documents
    except StorageError:
        return False


def _ids(index_path: Path, manifest: Manifest, notes: list[str]) -> Iterator[tuple[str, int, int]]:
    """Where each id leads, from the segments; of two documents with one id, the one of the newer segment."""
    places: dict[str, tuple[int, int]] = {}
    for info in manifest.segments:
        marks = np.ones(info.documents, np.bool_)
        if (tombstones := manifest.tombstones.get(info.name)) is not None:
            try:
                marks[read_tombstones(index_path, tombstones, info.documents)] = False
            except CorruptIndexError:
                notes.append(
                    f"The tombstones of segment {info.name} cannot be read either: {tombstones.deleted:,} documents that were "
                    "deleted or replaced may have come back; delete them again."
                )
        entries, unreadable = EntryReader(segment_path(index_path, info.name) / "ids", info.documents), 0
        for document in np.flatnonzero(marks).tolist():
            try:
                places[decode_id(entries.read(document))] = int(info.name), document
            except CorruptIndexError:
                unreadable += 1
        if unreadable:
            notes.append(f"Segment {info.name} holds {unreadable:,} documents whose ids cannot be read: they are lost.")
    return ((id_, *place) for id_, place in places.items())
