"""Exporting: one generation of an index as plain files, while others search and write it.

1. Hold the newest generation, so that no writer removes its files; check that there is room.
2. Stream the documents that are not deleted, some hundred at a time, each byte checked as it is read: texts to one file, records,
   decoded vectors and inspection columns to zarr arrays, the codebook as it is.
3. Describe it all: manifest.json with the sum of each file, README.txt.
4. Where one file is wanted, pack them.
5. Sync and rename: the destination is there whole, or not at all.

`copy_index` does the same with an index as the result: the files of the generation as they are, and a catalog of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from colindex.codebook import SearchCodebook
from colindex.errors import ParameterError
from colindex.exchange import CODEBOOK, DOCUMENTS, MANIFEST, README, VECTORS, ExchangeManifest, Part, readme
from colindex.kernels.reference import decode_records
from colindex.progress import Progress, Report, silent
from colindex.spool import decode_document
from colindex.storage.archive import is_archive, is_other_archive, pack
from colindex.storage.arrays import CHUNK_ROWS, METADATA, ColumnWriter, group_metadata
from colindex.storage.catalog import Catalog
from colindex.storage.checksums import FileSum
from colindex.storage.copying import copy_files
from colindex.storage.directory import NewFile, require_space, write_new_file
from colindex.storage.layout import codebook_path
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import Manifest
from colindex.storage.pinned import pinned
from colindex.storage.plain import PlainWriter, below, read_arrays
from colindex.storage.scanning import Part as Run
from colindex.storage.scanning import inspection_columns, scan
from colindex.storage.segments import COLUMNS, SegmentInfo, SegmentReader, segment_path
from colindex.storage.staged import publish, working_folder
from colindex.storage.tombstones import read_tombstones, tombstones_path

__all__ = ["ExportReport", "copy_index", "export_index", "id_places"]

_SHARD_BYTES = 16 << 20
_FLOAT16_BYTES = 2
_INSPECTION_BYTES = 20  # a source token, before compression


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written."""

    generation: int
    """The generation of the index that it is a copy of."""
    documents: int
    tokens: int
    """Stored vectors, those of documents that are not deleted; of an index copy all of them."""
    bytes: int
    seconds: float


def export_index(path: Path, destination: Path, *, vectors: bool = True, progress: Report = silent) -> ExportReport:
    """Export the newest generation of an index to a new folder, or to a file if the name ends in .tar or .tar.zst.

    Args:
        path: the index; readers and a writer may be at work.
        destination: a path where nothing is.
        vectors: write the decoded vectors too; an import does not need them.
        progress: told how far it has come.

    Raises:
        IndexExistsError, DiskSpaceError, IndexNotFoundError, IndexNotBuiltError, CorruptIndexError, FormatTooNewError
        ParameterError: the name is that of an archive of another kind.
    """
    start = time.perf_counter()
    _check_name(destination)
    with pinned(path) as manifest, working_folder(destination) as work:
        require_space(work, _estimated(manifest, vectors=vectors), "this export")
        tree = work / "tree"
        described = _write_tree(path, manifest, tree, vectors=vectors, progress=progress)
        size = sum(sum_.bytes for sum_ in described.files.values())
        result = tree
        if is_archive(destination):
            result = work / "archive"
            names = [README, MANIFEST, *(name for name in sorted(described.files) if name != README)]
            pack(tree, names, result, compressed=destination.name.endswith(".zst"))
            size = result.stat().st_size
        publish(result, destination)
    return ExportReport(
        generation=manifest.generation,
        documents=described.documents,
        tokens=described.tokens,
        bytes=size,
        seconds=time.perf_counter() - start,
    )


def copy_index(path: Path, destination: Path, *, progress: Report = silent) -> ExportReport:
    """Copy the newest generation of an index to a new index folder, each file compared with its sum on the way.

    Raises:
        As `export_index`.
    """
    start = time.perf_counter()
    _check_name(destination)
    with pinned(path) as manifest, working_folder(destination) as work:
        folders = _folders(path, manifest)
        size = sum(sum_.bytes for _, sums in folders for sum_ in sums.values())
        require_space(work, size, "this copy")
        copy, done = work / "index", 0
        copy.mkdir()
        for folder, sums in folders:
            copy_files(folder, copy / folder.relative_to(path), sums)
            done += sum(sum_.bytes for sum_ in sums.values())
            progress(Progress("copy", done, size, "bytes"))
        with WriterLock(copy), Catalog.open_writer(copy) as catalog:
            catalog.commit(manifest, id_places(path, manifest), first=True)
        publish(copy, destination)
    return ExportReport(
        generation=manifest.generation,
        documents=manifest.documents,
        tokens=manifest.tokens,
        bytes=size,
        seconds=time.perf_counter() - start,
    )


def _check_name(destination: Path) -> None:
    if is_other_archive(destination):
        raise ParameterError(
            f"{destination}: expected a folder, or a name that ends in .tar or .tar.zst, got {destination.name!r}; "
            "choose one of those."
        )


def _folders(path: Path, manifest: Manifest) -> list[tuple[Path, dict[str, FileSum]]]:
    """Every folder of a generation and what the manifest says of its files."""
    folders = [(codebook_path(path, manifest.codebook), dict(manifest.codebook_files))]
    folders += [(segment_path(path, info.name), dict(info.files)) for info in manifest.segments]
    folders += [(tombstones_path(path, each.name), dict(each.files)) for each in manifest.tombstones.values()]
    return folders


def id_places(path: Path, manifest: Manifest) -> Iterator[tuple[str, int, int]]:
    """Where each id of the generation leads, from the segments: the catalog may have gone on to a newer generation."""
    for info in manifest.segments:
        deleted = _deleted(path, manifest, info)
        live = np.delete(np.arange(info.documents), deleted).tolist()
        for id_, document in zip(SegmentReader(path, info).external_ids(live), live, strict=True):
            yield id_, int(info.name), document


def _deleted(path: Path, manifest: Manifest, info: SegmentInfo) -> NDArray[np.int64]:
    if info.name not in manifest.tombstones:
        return np.empty(0, np.int64)
    return read_tombstones(path, manifest.tombstones[info.name], info.documents)


def _estimated(manifest: Manifest, *, vectors: bool) -> int:
    """Bytes that an export takes, about and rather too many."""
    texts = sum(info.bytes_by_part["documents"] + info.bytes_by_part["ids"] for info in manifest.segments)
    records = sum(info.tokens * info.record_bytes for info in manifest.segments)
    sources = sum(info.source_tokens for info in manifest.segments)
    decoded = manifest.tokens * manifest.dim * _FLOAT16_BYTES if vectors else 0
    return (
        texts
        + records
        + decoded
        + sources * _INSPECTION_BYTES
        + sum(size for size, _ in manifest.codebook_files.values())
    )


def _write_tree(path: Path, manifest: Manifest, tree: Path, *, vectors: bool, progress: Report) -> ExchangeManifest:
    """Steps 2 and 3."""
    source = codebook_path(path, manifest.codebook)
    copy_files(source, tree / CODEBOOK, manifest.codebook_files)
    files = below(CODEBOOK, manifest.codebook_files)
    codebook = SearchCodebook.from_arrays(*read_arrays(source, manifest.codebook_files))
    documents, arrays = _Documents(tree / DOCUMENTS), _Arrays(tree / VECTORS, manifest, codebook, vectors=vectors)
    parts: list[Part] = []
    done = 0
    for info in manifest.segments:
        for run in scan(SegmentReader(path, info), _deleted(path, manifest, info)):
            documents.append(run)
            arrays.append(run)
            parts = _joined(parts, Part(len(run), tuple(sorted(run.columns)), run.source_offsets is not None))
            done += len(run)
            progress(Progress("export", done, manifest.documents))
    files |= {DOCUMENTS: documents.finish()} | below(VECTORS, arrays.finish())
    described = ExchangeManifest(
        generation=manifest.generation,
        created=manifest.created,
        documents=done,
        tokens=arrays.tokens,
        source_tokens=arrays.source_tokens,
        dim=manifest.dim,
        input_dim=manifest.input_dim,
        bits=manifest.bits,
        codec=manifest.codec,
        record_bytes=codebook.layout.record_bytes,
        params=manifest.params,
        encoder=manifest.encoder,
        drift=manifest.drift,
        parts=tuple(parts),
        files=files,
    )
    text = write_new_file(tree / README, readme(described).encode())
    described = replace(described, files=files | {README: text})
    write_new_file(tree / MANIFEST, described.to_json())
    return described


def _joined(parts: list[Part], part: Part) -> list[Part]:
    """Parts with one more behind them, or a longer last one."""
    if parts and (parts[-1].columns, parts[-1].pooled) == (part.columns, part.pooled):
        return [*parts[:-1], replace(part, documents=parts[-1].documents + part.documents)]
    return [*parts, part]


class _Documents:
    """Writes documents.jsonl.zst."""

    def __init__(self, path: Path) -> None:
        self._file = NewFile(path)
        self._zstd = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()

    def append(self, run: Run) -> None:
        """One line a document."""
        for id_, payload in zip(run.ids, run.documents, strict=True):
            document = decode_document(payload)
            row = {"id": id_, "title": document.title, "text": document.text, "metadata": dict(document.metadata)}
            self._file.write(self._zstd.compress(json.dumps(row, ensure_ascii=False).encode() + b"\n"))

    def finish(self) -> FileSum:
        """End the file."""
        self._file.write(self._zstd.flush())
        return self._file.close()


class _Arrays:
    """Writes vectors.zarr."""

    def __init__(self, folder: Path, manifest: Manifest, codebook: SearchCodebook, *, vectors: bool) -> None:
        self._folder, self._codebook = folder, codebook
        self.tokens = self.source_tokens = 0
        names = {name for info in manifest.segments for name in inspection_columns(info.files)}
        self._pooled = "source_offsets" in names
        size = codebook.layout.record_bytes
        self._records = ColumnWriter(folder / "records", np.uint8, size, shard_rows=_shard_rows(size), compressed=False)
        rows = _shard_rows(manifest.dim * _FLOAT16_BYTES)
        wide = ColumnWriter(folder / "vectors", np.float16, manifest.dim, shard_rows=rows, compressed=False)
        self._vectors = wide if vectors else None
        self._columns = {name: _column(folder, name) for name in COLUMNS if name in names}
        self._offsets = {"offsets": _offsets(folder / "offsets")}
        if self._pooled:
            self._offsets["source_offsets"] = _offsets(folder / "source_offsets")

    def append(self, run: Run) -> None:
        """Append the rows of some documents; a column that their segment does not have is filled with zeros."""
        self._records.append(run.records)
        if self._vectors is not None:
            self._vectors.append(decode_records(run.records, self._codebook.codes).astype(np.float16))
        source = run.offsets if run.source_offsets is None else run.source_offsets
        for name, column in self._columns.items():
            shape = (int(source[-1]), 2) if name == "spans" else (int(source[-1]),)
            column.append(run.columns.get(name, np.zeros(shape, np.int32)))
        self._offsets["offsets"].write((run.offsets[1:] + self.tokens).astype("<i8").tobytes())
        if self._pooled:
            self._offsets["source_offsets"].write((source[1:] + self.source_tokens).astype("<i8").tobytes())
        self.tokens += int(run.offsets[-1])
        self.source_tokens += int(source[-1])

    def finish(self) -> dict[str, FileSum]:
        """End all arrays."""
        arrays: dict[str, Callable[[], dict[str, FileSum]]] = {"records": self._records.finish}
        if self._vectors is not None:
            arrays["vectors"] = self._vectors.finish
        arrays |= {name: column.finish for name, column in self._columns.items()}
        arrays |= {name: offsets.finish for name, offsets in self._offsets.items()}
        files = {METADATA: write_new_file(self._folder / METADATA, group_metadata({"format": "colindex vectors"}))}
        for name, finish in arrays.items():
            files |= below(name, finish())
        return files


def _shard_rows(row_bytes: int) -> int:
    return max(1, _SHARD_BYTES // row_bytes // CHUNK_ROWS) * CHUNK_ROWS


def _column(folder: Path, name: str) -> ColumnWriter:
    return ColumnWriter(folder / name, np.int32, 2 if name == "spans" else None)


def _offsets(folder: Path) -> PlainWriter:
    writer = PlainWriter(folder, np.dtype("<i8"))
    writer.write(np.zeros(1, "<i8").tobytes())
    return writer
