"""Where a build's token vectors come from: texts to be encoded, or vectors that somebody else made.

Both are read once into the spool (`ingest`) and afterwards give the tokens of any chunk, pooled, as often as asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from colindex.errors import CorpusError, ParameterError, VectorError
from colindex.params import BuildParams
from colindex.pooling import pool
from colindex.progress import Progress, Report
from colindex.spool import Spool, check_unique, decode_document, document_chunks, id_hashes, token_chunks
from colindex.types import Document, DocumentEncoder, PooledBatch, TokenBatch

__all__ = ["Encoded", "Ingested", "Source", "TextSource", "VectorSource", "is_watched"]

_CHARACTERS_A_TOKEN = 4  # English WordPiece text has 4.2 to 4.6; only sizes of samples and progress hang on it

Chunk = TypeVar("Chunk")

Encoded = Callable[[int], None]
"""Called with the number of documents, of those that were asked for, that are encoded so far."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What the spool holds once everything was read."""

    documents: int
    tokens: int
    """Stored vectors, counted; for text an estimate from characters."""


class Source(Protocol):
    """Where the token vectors come from."""

    @property
    def kind(self) -> str:
        """`text` or `vectors`."""

    @property
    def params(self) -> BuildParams:
        """How the vectors are pooled and stored."""

    @property
    def fingerprint(self) -> Mapping[str, Any] | None:
        """The encoder's; None for vectors."""

    def ingest(self, spool: Spool, report: Report) -> Ingested:
        """Read everything into the spool; what an interrupted build has left there is compared, and stays as it is."""

    def tokens(self, spool: Spool, chunk: int, encoded: Encoded | None = None) -> PooledBatch:
        """The vectors of one chunk, pooled, in the order of its documents; `encoded` hears of each batch that is encoded."""


class WatchedEncoder(DocumentEncoder, Protocol):
    """An encoder that tells how far it is; `colindex.Encoder` does."""

    def encode_documents(self, documents: Sequence[Document], *, progress: Encoded | None = None) -> TokenBatch:
        """Token vectors of some documents; `progress` is called after each batch."""


def is_watched(encoder: DocumentEncoder) -> TypeGuard[WatchedEncoder]:
    """Whether this encoder tells how far it is: users' own need not."""
    return "progress" in signature(encoder.encode_documents).parameters


@dataclass(frozen=True, slots=True)
class TextSource:
    """Documents and the encoder that turns them into vectors."""

    documents: Iterable[Document]
    encoder: DocumentEncoder
    params: BuildParams
    kind: str = "text"

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """The encoder's, and its name."""
        return {"name": self.encoder.name, **self.encoder.fingerprint}

    def ingest(self, spool: Spool, report: Report) -> Ingested:
        """Read the documents into the spool."""
        tokens = 0
        limit = self.encoder.max_document_tokens

        def counted(chunks: Iterable[list[Document]]) -> Iterator[list[Document]]:
            nonlocal tokens
            for chunk in chunks:
                tokens += sum(min(len(document.content) // _CHARACTERS_A_TOKEN + 2, limit) for document in chunk)
                yield chunk

        documents = _ingest(
            counted(document_chunks(self.documents)),
            lambda chunk: [document.id for document in chunk],
            spool.write_documents,
            spool.holds_documents,
            spool,
            report,
        )
        return Ingested(documents, tokens)

    def tokens(self, spool: Spool, chunk: int, encoded: Encoded | None = None) -> PooledBatch:
        """Encode and pool one chunk, or read it back where that was done before."""
        if spool.has_tokens(chunk):
            return spool.tokens(chunk)
        return self.encode([decode_document(payload) for payload in spool.payloads(chunk)], encoded)

    def encode(self, documents: Sequence[Document], encoded: Encoded | None = None) -> PooledBatch:
        """Encode and pool some documents."""
        if is_watched(self.encoder):
            batch = self.encoder.encode_documents(documents, progress=encoded)
        else:
            batch = self.encoder.encode_documents(documents)
        return pool(batch, self.params.pool_factor, self.params.protected_tokens)


@dataclass(frozen=True, slots=True)
class VectorSource:
    """Batches of anybody's token vectors."""

    batches: Iterable[TokenBatch]
    params: BuildParams
    kind: str = "vectors"

    @property
    def fingerprint(self) -> None:
        """Vectors come without an encoder."""
        return

    def ingest(self, spool: Spool, report: Report) -> Ingested:
        """Read the batches, pooled, into the spool."""
        dims: set[int] = set()

        def of_one_dim(chunks: Iterable[TokenBatch]) -> Iterator[TokenBatch]:
            for chunk in chunks:
                dims.add(chunk.dim)
                if len(dims) > 1:
                    raise VectorError(
                        f"batches: expected vectors of one dim, got {sorted(dims)} (from document {chunk.ids[0]!r} on)."
                    )
                yield chunk

        def write(number: int, chunk: TokenBatch) -> None:
            spool.write_tokens(number, pool(chunk, self.params.pool_factor, self.params.protected_tokens), chunk)

        documents = _ingest(
            of_one_dim(token_chunks(self.batches)),
            lambda chunk: list(chunk.ids),
            write,
            spool.holds_tokens,
            spool,
            report,
        )
        tokens = sum(int(spool.token_offsets(number)[-1]) for number in range(spool.chunk_count()))
        return Ingested(documents, tokens)

    def tokens(self, spool: Spool, chunk: int, encoded: Encoded | None = None) -> PooledBatch:
        """One chunk of the spool."""
        return spool.tokens(chunk)


def _ingest(
    chunks: Iterable[Chunk],
    ids_of: Callable[[Chunk], list[str]],
    write: Callable[[int, Chunk], None],
    holds: Callable[[int, Chunk], bool],
    spool: Spool,
    report: Report,
) -> int:
    """Write all chunks that are not in the spool yet; the number of documents.

    Raises:
        CorpusError: there is no document at all.
        DuplicateIdError: two documents share an id.
        ParameterError: what an interrupted build has read differs from what comes now; the spool stays as it was.
    """
    present = spool.chunk_count()
    hashes: list[NDArray[np.uint64]] = []
    done = 0
    for number, chunk in enumerate(chunks):
        ids = ids_of(chunk)
        if number < present:
            if not holds(number, chunk):
                raise _differ(spool, _difference(spool.ids(number), ids, done))
        elif spool.complete:
            raise _differ(spool, f"expected {done:,} documents, got more, from {ids[0]!r} on")
        else:
            write(number, chunk)
        hashes.append(id_hashes(ids))
        done += len(ids)
        report(Progress("ingest", done, None))
    if len(hashes) < present:
        raise _differ(
            spool, f"expected more than {done:,} documents, got no more; the next was {spool.ids(len(hashes))[0]!r}"
        )
    if done == 0:
        raise CorpusError("no documents: expected at least one to build an index, got an empty corpus.")
    check_unique(np.concatenate(hashes), (id_ for number in range(len(hashes)) for id_ in spool.ids(number)))
    return done


def _difference(held: list[str], got: list[str], done: int) -> str:
    """What tells a chunk that comes after `done` documents from the one that the spool holds."""
    for position, (expected, id_) in enumerate(zip(held, got, strict=False), start=done + 1):
        if expected != id_:
            return f"expected {expected!r} as document {position:,}, got {id_!r}"
    return (
        f"expected what was read as documents {done + 1:,} to {done + len(held):,} ({held[0]!r} to {held[-1]!r}), "
        "got other contents or another number of them"
    )


def _differ(spool: Spool, difference: str) -> ParameterError:
    return ParameterError(
        f"{spool.folder}: the documents differ from those of the interrupted build: {difference}. "
        "Pass the same documents in the same order, or delete the unfinished index and build again."
    )
