"""Importing: an index from what `exporting.py` wrote, bit for bit the same answers.

1. Unpack an archive beside the destination; a folder is read where it is.
2. Compare every file with its sum in manifest.json.
3. Copy the codebook; write the records, with their documents and inspection columns, into new segments, in order.
4. Commit the first generation of the new index.
5. Sync and rename: the destination is there whole, or not at all.

Decoded vectors are not read: the records are the same without loss.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import SearchCodebook
from colindex.errors import CorruptIndexError, ParameterError
from colindex.exchange import CODEBOOK, DOCUMENTS, MANIFEST, REMEDY, VECTORS, ExchangeManifest, Part
from colindex.exporting import ExportReport, id_places
from colindex.params import BuildParams
from colindex.progress import Progress, Report, silent
from colindex.segmenting import append_part
from colindex.spool import encode_document
from colindex.storage.archive import is_archive, unpack
from colindex.storage.arrays import read_column
from colindex.storage.catalog import Catalog
from colindex.storage.copying import check_files, copy_files
from colindex.storage.directory import require_space
from colindex.storage.layout import codebook_path
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import Manifest
from colindex.storage.plain import read_arrays, read_plain, within
from colindex.storage.scanning import Part as Run
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import MAX_DOCUMENTS, SegmentInfo
from colindex.storage.staged import publish, working_folder
from colindex.textfiles import open_lines
from colindex.types import Document

__all__ = ["import_index"]

_CODEBOOK_NAME = "codebook-000001"
_PIECE_DOCUMENTS = 512
_POSTING_BYTES = 8  # a stored vector: postings, checksums and the catalog, about


@dataclass(frozen=True, slots=True)
class _Export:
    """An export that has been checked."""

    folder: Path
    described: ExchangeManifest
    offsets: NDArray[np.int64]
    source_offsets: NDArray[np.int64]


def import_index(source: Path, destination: Path, *, progress: Report = silent) -> ExportReport:
    """Make a new index of an export.

    Args:
        source: a folder, or a .tar or .tar.zst.
        destination: a path where nothing is.
        progress: told how far it has come.

    Raises:
        IndexExistsError, DiskSpaceError, FormatTooNewError
        CorruptIndexError: the export is damaged, or none.
    """
    start = time.perf_counter()
    with working_folder(destination) as work:
        _check_kind(source)
        folder = source
        if is_archive(source):
            require_space(work, source.stat().st_size, "unpacking this export")
            folder = work / "export"
            unpack(source, folder)
        export = _checked(folder)
        needed = sum(size for name, (size, _) in export.described.files.items() if f"{VECTORS}/vectors/" not in name)
        require_space(work, needed + export.described.tokens * _POSTING_BYTES, "this import")
        index = work / "index"
        index.mkdir()
        manifest = _write_index(export, index, progress)
        publish(index, destination)
    return ExportReport(
        generation=manifest.generation,
        documents=manifest.documents,
        tokens=manifest.tokens,
        bytes=sum(info.bytes for info in manifest.segments) + sum(size for size, _ in manifest.codebook_files.values()),
        seconds=time.perf_counter() - start,
    )


def _check_kind(source: Path) -> None:
    """Tell what is no export at all from one that is damaged."""
    if source.is_file() and not is_archive(source):
        raise CorruptIndexError(
            f"{source}: expected a folder, a .tar or a .tar.zst that `colindex export` wrote, got another file; "
            "a corpus is read by `colindex build`."
        )
    if Path(source, "catalog.lmdb").is_dir():
        raise CorruptIndexError(
            f"{source}: expected the manifest of an export, got an index, which opens as it is; "
            "copy it with `colindex export INDEX COPY --as-index`."
        )


def _checked(folder: Path) -> _Export:
    """Step 2."""
    described = ExchangeManifest.read(folder / MANIFEST)
    check_files(folder, described.files, REMEDY)
    offsets = _offsets(folder, described, "offsets")
    pooled = any(part.pooled for part in described.parts)
    source = _offsets(folder, described, "source_offsets") if pooled else offsets
    found = (len(offsets) - 1, int(offsets[-1]), int(source[-1]), sum(part.documents for part in described.parts))
    expected = (described.documents, described.tokens, described.source_tokens, described.documents)
    if found != expected or len(source) != len(offsets):
        raise CorruptIndexError(f"{folder}: expected documents, vectors and parts {expected}, got {found}; {REMEDY}.")
    return _Export(folder, described, offsets, source)


def _offsets(folder: Path, described: ExchangeManifest, name: str) -> NDArray[np.int64]:
    path = f"{VECTORS}/{name}"
    return read_plain(folder / path, within(described.files, path)).astype(np.int64)


def _write_index(export: _Export, index: Path, progress: Report) -> Manifest:
    """Steps 3 and 4."""
    described = export.described
    sums = within(described.files, CODEBOOK) or {}
    target = codebook_path(index, _CODEBOOK_NAME)
    copy_files(export.folder / CODEBOOK, target, sums)
    codebook = SearchCodebook.from_arrays(*read_arrays(target, sums))
    if (got := codebook.layout.record_bytes) != described.record_bytes:
        raise ParameterError(
            f"{export.folder}: expected records of {described.record_bytes} bytes, got {got}; {REMEDY}."
        )
    with WriterLock(index), Catalog.open_writer(index) as catalog:
        writer = _Segments(index, codebook, BuildParams.of_index(described.params))
        for documents, part in _runs(export):
            writer.append(export, documents, part)
            progress(Progress("import", writer.documents, described.documents))
        writer.seal()
        manifest = Manifest(
            generation=1,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            dim=described.dim,
            input_dim=described.input_dim,
            bits=described.bits,
            codec=described.codec,
            params=described.params,
            encoder=described.encoder,
            codebook=_CODEBOOK_NAME,
            codebook_files=sums,
            segments=tuple(writer.sealed),
            next_segment=len(writer.sealed) + 1,
            documents=described.documents,
            tokens=described.tokens,
            drift=described.drift,
        )
        catalog.commit(manifest, id_places(index, manifest))
    return manifest


def _runs(export: _Export) -> Iterator[tuple[list[Document], Part]]:
    """The documents in runs of equal columns, some hundred at a time."""
    path = export.folder / DOCUMENTS
    with open_lines(path) as lines:
        for part in export.described.parts:
            left = part.documents
            while left:
                documents = [_document(json.loads(line)) for line in islice(lines, min(left, _PIECE_DOCUMENTS))]
                if not documents:
                    raise CorruptIndexError(f"{path}: expected {left:,} documents more; {REMEDY}.")
                yield documents, part
                left -= len(documents)


def _document(row: dict[str, Any]) -> Document:
    return Document(id=row["id"], title=row["title"], text=row["text"], metadata=row["metadata"])


class _Segments:
    """Writes documents into segments as a build would, one set of inspection columns each."""

    def __init__(self, index: Path, codebook: SearchCodebook, params: BuildParams) -> None:
        self._index, self._codebook, self._limit = index, codebook, params.segment_tokens
        self._writer: SegmentWriter | None = None
        self._part: Part | None = None
        self.sealed: list[SegmentInfo] = []
        self.documents = 0

    def append(self, export: _Export, documents: list[Document], part: Part) -> None:
        """Append the next documents of an export."""
        full = self._writer is not None and (
            self._writer.n_tokens >= self._limit or self._writer.n_documents + len(documents) > MAX_DOCUMENTS
        )
        if full or part is not self._part:
            self.seal()
        if self._writer is None:
            name, layout = f"{len(self.sealed) + 1:06d}", self._codebook.layout
            self._writer = SegmentWriter(
                self._index, name, record_bytes=layout.record_bytes, n_centroids=self._codebook.n_centroids
            )
        first, last = self.documents, self.documents + len(documents)
        offsets = export.offsets[first : last + 1]
        records = _rows(export, "records", offsets)
        source = export.source_offsets[first : last + 1]
        run = Run(
            records=records,
            centroids=self._codebook.layout.unpack(records)[0],
            offsets=offsets - offsets[0],
            ids=[document.id for document in documents],
            documents=[encode_document(document) for document in documents],
            columns={name: _rows(export, name, source) for name in part.columns},
            source_offsets=source - source[0] if part.pooled else None,
        )
        append_part(self._writer, run)
        self._part, self.documents = part, last

    def seal(self) -> None:
        """End the open segment, if there is one."""
        if self._writer is not None:
            self.sealed.append(self._writer.seal())
            self._writer = None


def _rows(export: _Export, name: str, offsets: NDArray[np.int64]) -> NDArray[Any]:
    """The rows of some documents in an array."""
    start, stop = int(offsets[0]), int(offsets[-1])
    if start < stop:
        return read_column(export.folder / VECTORS / name, start, stop)
    if name == "records":
        return np.empty((0, export.described.record_bytes), np.uint8)
    return np.empty((0, 2) if name == "spans" else (0,), np.int32)
