"""Repair: give up what cannot be read, by name, and keep the rest searchable.

1. *Catalog*: it is the truth about ids. If it cannot be opened, it is made anew (`storage.catalog_repair`).
2. *Codebook*: without it nothing can be decoded, and nothing is repaired.
3. *Segments*: each file is compared with its sum, and the parts with each other. A segment that is damaged is written anew from
   what of it is sound (`storage.salvage`); the documents that are not are lost. Their texts are handed to the caller where they
   can still be read, so that they can be added again; before anything is committed the caller is told to make them durable.
4. *Tombstones* that cannot be read are made anew from the catalog, which leads to no deleted document: nothing is lost.
5. *Commit*: one generation more, without what was lost. What was damaged is then named by nothing, and removed.

A dry run reads as much and writes nothing into the index.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colindex.codebook import SearchCodebook
from colindex.errors import CorruptIndexError
from colindex.segmenting import append_part
from colindex.spool import decode_document
from colindex.storage.catalog import Catalog
from colindex.storage.catalog_repair import install_catalog, sound_catalog
from colindex.storage.directory import remove_tree, require_space
from colindex.storage.entries import EntryReader, decompress
from colindex.storage.layout import codebook_path
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import Manifest
from colindex.storage.manifest_copy import read_manifest_copy
from colindex.storage.pins import remove_strays
from colindex.storage.plain import read_arrays
from colindex.storage.salvage import Salvage
from colindex.storage.scanning import scan
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import SegmentInfo, SegmentReader, segment_path
from colindex.storage.tombstones import Tombstones, tombstones_path, write_tombstones
from colindex.storage.verify import folder_findings
from colindex.storage.verify_segments import segment_problems
from colindex.types import Document

__all__ = ["LostDocument", "RepairReport", "Rescue", "repair"]

WORK = "repairing"

Rescue = Callable[[Document], None]
"""Takes a document whose vectors are lost and whose text is not."""


@dataclass(frozen=True, slots=True)
class LostDocument:
    """A document that the index holds no more."""

    id: str
    segment: str
    reason: str
    text_rescued: bool
    """Whether its text could be read, and was handed to the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair did, or with `dry_run` would do."""

    before: int
    """The generation that was found."""
    generation: int
    """The generation that the index is at now; the same if there was nothing to repair."""
    documents: int
    """Documents that are left."""
    lost: tuple[LostDocument, ...] = ()
    rewritten: tuple[str, ...] = ()
    """Segments that were damaged and written anew from what was sound."""
    dropped: tuple[str, ...] = ()
    """Segments of which nothing was sound."""
    notes: tuple[str, ...] = ()
    """What else was repaired or given up, in sentences."""
    dry_run: bool = False

    @property
    def nothing_to_do(self) -> bool:
        """Whether all was sound."""
        return not (self.lost or self.rewritten or self.dropped or self.notes)

    def as_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)


def repair(
    path: Path,
    *,
    dry_run: bool = False,
    rescue: Rescue = lambda document: None,
    before_commit: Callable[[], None] = lambda: None,
) -> RepairReport:
    """Make the index at `path` whole again, at the price of what cannot be read.

    Args:
        path: the index; readers may be at work.
        dry_run: find out what would be done.
        rescue: is given the documents that are lost but for their texts.
        before_commit: called when it has been given all of them: afterwards the index holds them no more, whatever happens.

    Raises:
        CorruptIndexError: the codebook is damaged, or the catalog and the copy of the manifest are: nothing was changed.
        IndexNotFoundError, IndexNotBuiltError, IndexLockedError, DiskSpaceError
    """
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="colindex-") as work:
            sound = sound_catalog(path, Path(work), may_change=True)
            with Catalog.open_reader(sound.folder) as catalog:
                return _Repair(path, catalog, [*sound.notes, *_copy_notes(path)], rescue, dry_run=True).run()
    with _locked(path) as work_folder:
        notes = _copy_notes(path)
        sound = sound_catalog(path, work_folder, may_change=False)
        if sound.folder != path:
            install_catalog(sound, path)
        with Catalog.open_writer(path) as catalog:
            report = _Repair(path, catalog, [*sound.notes, *notes], rescue, dry_run=False).run(before_commit)
            remove_strays(path, catalog.manifest())
    return report


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """The right to write the index, and an empty folder in it that nothing names."""
    with tempfile.TemporaryDirectory(prefix="colindex-") as work:
        sound_catalog(path, Path(work), may_change=True)  # so that nothing is written where nothing can be repaired
    with WriterLock(path):
        work_folder = path / WORK
        remove_tree(work_folder)
        work_folder.mkdir()
        try:
            yield work_folder
        finally:
            remove_tree(work_folder)


def _copy_notes(path: Path) -> list[str]:
    """Whoever opens the catalog to write replaces a damaged copy of the manifest."""
    try:
        read_manifest_copy(path)
    except CorruptIndexError:
        return ["The copy of the manifest is damaged, and is written anew."]
    return []


class _Repair:
    """Steps 2 to 5, and what has been found and done so far."""

    def __init__(self, path: Path, catalog: Catalog, notes: list[str], rescue: Rescue, *, dry_run: bool) -> None:
        self.path, self.catalog, self.manifest, self.dry_run = path, catalog, catalog.manifest(), dry_run
        self.rescue = rescue if self.manifest.encoder is not None else None  # an index of vectors has no texts
        self.codebook = _codebook(path, self.manifest)
        self.notes, self.notes_before = notes, len(notes)
        self.lost: list[LostDocument] = []
        self.rewritten: list[str] = []
        self.dropped: list[str] = []
        self.segments: list[SegmentInfo] = []  # of the next generation, as are:
        self.tombstones: dict[str, Tombstones] = {}
        self.places: list[tuple[str, int, int]] = []  # where documents of segments that were written anew are
        self.next_segment = self.manifest.next_segment

    def run(self, before_commit: Callable[[], None] = lambda: None) -> RepairReport:
        """All of it."""
        manifest = self.manifest
        damaged = {info.name: found for info in manifest.segments if (found := _damage(self.path, info)) is not None}
        blind = {name for name, each in manifest.tombstones.items() if _is_damaged(self.path, each)}
        owners, count = _owners(self.catalog, {int(name) for name in {*damaged, *blind}})
        needed = sum(info.bytes for info in manifest.segments if info.name in damaged)
        if not self.dry_run:
            require_space(self.path, needed, "writing the damaged segments anew")
        for info in manifest.segments:
            ids = owners.get(int(info.name), {})
            if info.name in damaged:
                self._save(info, damaged[info.name], ids)
            else:
                self.segments.append(info)
                self._keep_tombstones(info, set(ids) if info.name in blind else None)
        generation = manifest.generation
        changed = bool(self.lost or self.rewritten or self.dropped or len(self.notes) > self.notes_before)
        if changed and not self.dry_run:
            following = manifest.next(
                segments=tuple(self.segments), tombstones=self.tombstones, next_segment=self.next_segment
            )
            before_commit()
            self.catalog.commit(following, self.places, [document.id for document in self.lost])
            generation = following.generation
        return RepairReport(
            before=manifest.generation,
            generation=generation,
            documents=count - len(self.lost),
            lost=tuple(self.lost),
            rewritten=tuple(self.rewritten),
            dropped=tuple(self.dropped),
            notes=tuple(self.notes),
            dry_run=self.dry_run,
        )

    def _save(self, info: SegmentInfo, damaged: Sequence[str], ids: dict[int, str]) -> None:
        """Step 3, of one damaged segment."""
        try:
            salvage = Salvage(self.path, info, damaged, ids)
        except CorruptIndexError as error:
            self.dropped.append(info.name)
            self._lose(info, dict.fromkeys(ids, f"its segment cannot be read: {error}"), ids)
            return
        self._lose(info, salvage.lost, ids)
        if salvage.lost_columns:
            names = ", ".join(salvage.lost_columns)
            self.notes.append(f"Segment {info.name} keeps its documents, but what inspection needs is lost: {names}.")
        (self.rewritten if salvage.sound else self.dropped).append(info.name)
        if salvage.sound and not self.dry_run:
            self._rewrite(salvage)

    def _lose(self, info: SegmentInfo, reasons: dict[int, str], ids: dict[int, str]) -> None:
        """Put down the documents that are lost, and hand over the texts that are not."""
        for document, reason in sorted(reasons.items()):
            text = None if self.rescue is None else _text(self.path, info, document)
            if text is not None and self.rescue is not None:
                self.rescue(text)
            self.lost.append(LostDocument(ids[document], info.name, reason, text is not None))

    def _rewrite(self, salvage: Salvage) -> None:
        """Write the sound documents of a damaged segment into a new one."""
        name, size, written = f"{self.next_segment:06d}", self.codebook.layout.record_bytes, 0
        with SegmentWriter(self.path, name, record_bytes=size, n_centroids=self.codebook.n_centroids) as writer:
            for part in scan(salvage, salvage.left_out, salvage.columns):
                append_part(writer, part)
                self.places += [(id_, self.next_segment, written + place) for place, id_ in enumerate(part.ids)]
                written += len(part)
            self.segments.append(writer.seal())
        self.next_segment += 1

    def _keep_tombstones(self, info: SegmentInfo, live: set[int] | None) -> None:
        """Step 4: the tombstones of a sound segment as they are, or (given the documents that are not deleted) anew."""
        if info.name not in self.manifest.tombstones:
            return
        if live is None:
            self.tombstones[info.name] = self.manifest.tombstones[info.name]
            return
        self.notes.append(f"The tombstones of segment {info.name} are damaged, and are made anew from the catalog.")
        deleted = sorted(set(range(info.documents)) - live)
        if deleted and not self.dry_run:
            number = self.manifest.generation + 1
            self.tombstones[info.name] = write_tombstones(self.path, info.name, number, info.documents, deleted)


def _codebook(path: Path, manifest: Manifest) -> SearchCodebook:
    folder = codebook_path(path, manifest.codebook)
    for finding in folder_findings(folder, manifest.codebook_files):
        raise CorruptIndexError(
            f"{finding.path}: the codebook is damaged (expected {finding.expected}, got {finding.got}), and without it no "
            "vector can be decoded: this cannot be repaired. Restore this folder from a copy of the index, or build it again."
        )
    return SearchCodebook.from_arrays(*read_arrays(folder, manifest.codebook_files))


def _damage(path: Path, info: SegmentInfo) -> list[str] | None:
    """The files of a segment that are damaged; none of them if only its parts disagree; None if all is sound."""
    folder = segment_path(path, info.name)
    names = [finding.path.relative_to(folder).as_posix() for finding in folder_findings(folder, info.files)]
    if names:
        return names
    try:
        agree = next(segment_problems(SegmentReader(path, info)), None) is None
    except CorruptIndexError:
        agree = False
    return None if agree else []


def _is_damaged(path: Path, tombstones: Tombstones) -> bool:
    return next(folder_findings(tombstones_path(path, tombstones.name), tombstones.files), None) is not None


def _owners(catalog: Catalog, segments: set[int]) -> tuple[dict[int, dict[int, str]], int]:
    """The id of each document that is not deleted, of some segments; and how many ids there are in all."""
    owners: dict[int, dict[int, str]] = defaultdict(dict)
    count = 0
    for id_, segment, document in catalog.ids():
        count += 1
        if segment in segments:
            owners[segment][document] = id_
    return owners, count


def _text(path: Path, info: SegmentInfo, document: int) -> Document | None:
    """A document of a damaged segment, if that much of it can be read."""
    folder = segment_path(path, info.name) / "documents"
    try:
        return decode_document(decompress(folder, EntryReader(folder, info.documents).read(document)))
    except CorruptIndexError:
        return None
