"""Spool: what a build has read so far, in chunk files beside the index, so that memory stays bounded and a kill costs little.

1. Documents (or users' vectors) arrive once and are cut into chunks: a fixed number of documents, fewer where they are long.
2. A chunk is written to a temporary file and renamed: a chunk file that exists is whole (zstd and zip checksum it).
3. Chunks are the unit of everything after: encoding, sampling, resuming, sealing. Their borders depend on the documents
   alone, so an interrupted build and an uninterrupted one encode the same batches and write the same bytes.

Every document's id is also kept as a 64-bit hash, so that a duplicate is found before hours of encoding: 8 bytes a document.
An interrupted build that is resumed reads everything once more and compares it, chunk by chunk, with what is here.
"""

from __future__ import annotations

import itertools
import json
import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from colindex.errors import CorruptIndexError, DuplicateIdError, InputError
from colindex.storage import directory
from colindex.storage.directory import full_disk_is_said, require_space
from colindex.storage.entries import encode_id
from colindex.types import Document, PooledBatch, SourceTokens, TokenBatch

__all__ = [
    "Spool",
    "check_unique",
    "decode_document",
    "document_chunks",
    "encode_document",
    "id_hashes",
    "token_chunks",
]

CHUNK_DOCUMENTS = 512
CHUNK_CHARACTERS = 1 << 20
CHUNK_VECTOR_BYTES = 32 << 20  # as float32
_READING = threading.Lock()
"""NumPy parses a header as Python, and Python 3.11 fails now and then where two threads do (python/cpython#106905)."""


def encode_document(document: Document) -> bytes:
    """One document as JSON bytes.

    Raises:
        InputError: its text is no text, or its metadata is not JSON.
    """
    encode_id(document.id)
    _check_texts(document)
    try:
        row = [document.id, document.title, document.text, dict(document.metadata)]
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:  # UnicodeEncodeError, from lone surrogates, is a ValueError
        raise InputError(
            f"document {document.id!r}: expected text in Unicode and metadata that JSON can hold: {error}."
        ) from error


def _check_texts(document: Document) -> None:
    for name, value in (("text", document.text), ("title", document.title)):
        if not isinstance(value, str):
            raise InputError(f"document {document.id!r}: expected {name} to be str, got {type(value).__name__}.")


def decode_document(payload: bytes) -> Document:
    """Make the document that `encode_document` wrote."""
    id_, title, text, metadata = json.loads(payload)
    return Document(id=id_, title=title, text=text, metadata=metadata)


def document_chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Cut a stream of documents into chunks of at most 512 documents and about a million characters."""
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        if not isinstance(document, Document):
            raise InputError(f"documents: expected Document values, got {type(document).__name__}.")
        _check_texts(document)
        if chunk and (len(chunk) == CHUNK_DOCUMENTS or characters + len(document.text) > CHUNK_CHARACTERS):
            yield chunk
            chunk, characters = [], 0
        chunk.append(document)
        characters += len(document.text)
    if chunk:
        yield chunk


def token_chunks(batches: Iterable[TokenBatch]) -> Iterator[TokenBatch]:
    """Cut a stream of batches into chunks of at most 32 MiB of float32 and 8,192 documents (a longer document stands alone)."""
    for batch in batches:
        if not isinstance(batch, TokenBatch):
            raise InputError(f"batches: expected TokenBatch values, got {type(batch).__name__}.")
        limit = max(1, CHUNK_VECTOR_BYTES // (4 * batch.dim))
        start = 0
        while start < len(batch):
            fits = int(np.searchsorted(batch.offsets, batch.offsets[start] + limit, side="right")) - 1
            stop = min(max(fits, start + 1), start + 8192, len(batch))
            yield slice_batch(batch, start, stop)
            start = stop


def slice_batch(batch: TokenBatch, start: int, stop: int) -> TokenBatch:
    """Documents `start` to `stop` of a batch, as views."""
    rows = slice(int(batch.offsets[start]), int(batch.offsets[stop]))
    return TokenBatch(
        ids=batch.ids[start:stop],
        vectors=batch.vectors[rows],
        offsets=batch.offsets[start : stop + 1] - batch.offsets[start],
        token_ids=None if batch.token_ids is None else batch.token_ids[rows],
        spans=None if batch.spans is None else batch.spans[rows],
    )


def id_hashes(ids: Iterable[str]) -> NDArray[np.uint64]:
    """One 64-bit hash an id."""
    return np.fromiter((xxhash.xxh3_64_intdigest(encode_id(id_)) for id_ in ids), np.uint64)


def check_unique(hashes: NDArray[np.uint64], ids: Iterable[str]) -> None:
    """Check that no id comes twice; `ids`, in the order of `hashes`, are read again only where a hash does.

    Raises:
        DuplicateIdError: two documents share an id.
    """
    values, counts = np.unique(hashes, return_counts=True)
    suspects = set(values[counts > 1].tolist())
    if not suspects:
        return
    first: dict[str, int] = {}
    for position, (hash_, id_) in enumerate(zip(hashes.tolist(), ids, strict=True)):
        if hash_ in suspects and first.setdefault(id_, position) != position:
            raise DuplicateIdError(
                f"documents {first[id_] + 1:,} and {position + 1:,} share the id {id_!r}; ids have to be unique: "
                "drop one of the two or give it another id."
            )


@dataclass(frozen=True, slots=True)
class Spool:
    """The chunk files of one build."""

    folder: Path
    complete: bool = False
    """Whether all documents of the build are here: what is read again then has to end where the spool does."""

    def create(self) -> None:
        """Make the folder."""
        with full_disk_is_said(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def write_documents(self, chunk: int, documents: Sequence[Document]) -> None:
        """Keep a chunk of documents."""
        rows = b"\n".join(encode_document(document) for document in documents)
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(rows)
        with self._whole(self.folder / f"{chunk:06d}.documents", len(frame)) as file:
            file.write(frame)

    def payloads(self, chunk: int) -> list[bytes]:
        """The documents of a chunk as `encode_document` wrote them."""
        path = self.folder / f"{chunk:06d}.documents"
        try:
            rows = zstandard.ZstdDecompressor().decompress(path.read_bytes())
        except zstandard.ZstdError as error:
            raise CorruptIndexError(f"{path}: the spooled documents are damaged ({error}); build again.") from error
        return rows.split(b"\n")

    def holds_documents(self, chunk: int, documents: Sequence[Document]) -> bool:
        """Whether this chunk was written from these documents."""
        rows, held = [encode_document(document) for document in documents], self.payloads(chunk)
        # the slower comparison is of values: metadata may come in another order
        return rows == held or list(map(decode_document, rows)) == list(map(decode_document, held))

    def write_tokens(self, chunk: int, batch: PooledBatch, handed_in: TokenBatch | None = None) -> None:
        """Keep a chunk of token vectors, and a digest of the vectors it was made of where somebody handed them in."""
        columns = _columns("", batch.tokens, ("vectors", "offsets", "token_ids", "spans"))
        columns["ids"] = np.frombuffer(json.dumps(batch.tokens.ids).encode("utf-8"), np.uint8)
        if handed_in is not None:
            columns["digest"] = np.array(_digest(handed_in), np.uint64)
        if batch.source is not None:
            columns |= _columns("source_", batch.source, ("offsets", "stored", "token_ids", "spans"))
        size = sum(column.nbytes for column in columns.values())
        with self._whole(self.folder / f"{chunk:06d}.tokens", size) as file:
            np.savez(file, allow_pickle=False, **columns)

    def holds_tokens(self, chunk: int, handed_in: TokenBatch) -> bool:
        """Whether this chunk was made of these vectors."""
        return int(self._read(chunk, ("digest",))["digest"]) == _digest(handed_in)

    def has_documents(self, chunk: int) -> bool:
        """Whether this chunk's documents are here."""
        return (self.folder / f"{chunk:06d}.documents").exists()

    def has_tokens(self, chunk: int) -> bool:
        """Whether this chunk's vectors are here."""
        return (self.folder / f"{chunk:06d}.tokens").exists()

    def tokens(self, chunk: int) -> PooledBatch:
        """The token vectors of a chunk."""
        columns = self._read(chunk)
        columns.pop("digest", None)
        source = {name: columns.pop(name) for name in list(columns) if name.startswith("source_")}
        ids = json.loads(columns.pop("ids").tobytes())
        return PooledBatch(
            TokenBatch(ids=tuple(ids), **columns),
            SourceTokens(**{name.removeprefix("source_"): array for name, array in source.items()}) if source else None,
        )

    def token_offsets(self, chunk: int) -> NDArray[np.int64]:
        """Where each document's vectors start and end, int64 [documents + 1], read without them."""
        return np.asarray(self._read(chunk, ("offsets",))["offsets"], np.int64)

    def ids(self, chunk: int) -> list[str]:
        """The external ids of a chunk."""
        if self.has_documents(chunk):
            return [str(json.loads(payload)[0]) for payload in self.payloads(chunk)]
        return [str(id_) for id_ in json.loads(self._read(chunk, ("ids",))["ids"].tobytes())]

    def document_count(self, chunk: int) -> int:
        """Number of documents in a chunk."""
        return len(self.payloads(chunk)) if self.has_documents(chunk) else len(self.token_offsets(chunk)) - 1

    def chunk_count(self) -> int:
        """Number of chunks from the first on that are here without a gap."""
        return next(n for n in itertools.count() if not (self.has_documents(n) or self.has_tokens(n)))

    def _read(self, chunk: int, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Some columns of a chunk of vectors, or all."""
        path = self.folder / f"{chunk:06d}.tokens"
        try:
            with _READING, path.open("rb") as whole, np.load(whole, allow_pickle=False) as file:
                return {name: file[name] for name in names or file.files}
        except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CorruptIndexError(f"{path}: the spooled vectors are damaged ({error}); build again.") from error

    @contextmanager
    def _whole(self, path: Path, size: int) -> Iterator[BinaryIO]:
        """Make the whole file appear at once; a kill leaves a temporary file that the next attempt overwrites."""
        require_space(self.folder, size, "the next part of the build's spool")
        temporary = path.with_suffix(".partial")
        with full_disk_is_said(path):
            with temporary.open("wb") as file:
                yield file
            directory.operations.replace(temporary, path)


def _columns(prefix: str, value: TokenBatch | SourceTokens, names: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """The columns of a batch that are there, by name."""
    present = {prefix + name: getattr(value, name) for name in names}
    return {name: array for name, array in present.items() if array is not None}


def _digest(batch: TokenBatch) -> int:
    """A checksum of all that a batch holds."""
    digest = xxhash.xxh3_64(json.dumps(batch.ids).encode("utf-8"))
    for name, array in sorted(_columns("", batch, ("vectors", "offsets", "token_ids", "spans")).items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.intdigest()
