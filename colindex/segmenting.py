"""Segmenting: spooled chunks in, sealed segments out. Building, adding and retraining all write segments this way.

1. Get the vectors of a chunk, pooled, from its source.
2. Project, assign and code them, some chunks at once where there are threads.
3. Append them to the open segment, in order; seal it at its budget of tokens, when the next chunk's documents would not fit, or
   when the next chunk's vectors come with other columns.

Borders of segments depend on the documents alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from colindex.codebook import Codebook
from colindex.drift import Drift, measure
from colindex.params import BuildParams, parse_bytes
from colindex.progress import Rising
from colindex.sources import Source
from colindex.spool import CHUNK_VECTOR_BYTES, Spool, decode_document, encode_document
from colindex.storage.directory import remove_tree
from colindex.storage.scanning import Part
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import MAX_DOCUMENTS, SegmentInfo, segment_path
from colindex.threads import INDEPENDENT
from colindex.types import CodedBatch, Document, PooledBatch

__all__ = ["BESIDE_THE_RECORD", "First", "Segmented", "append_part", "new_ids", "thread_count", "write_segments"]

BESIDE_THE_RECORD = 12
"""Bytes on disk a stored vector beside its record, about: postings, token ids and spans, text."""
CHUNK_CODING_BYTES = 5 * CHUNK_VECTOR_BYTES
"""Memory that one chunk takes while it is coded: as it came, projected, its residuals, records, and what stands between."""
_MEMORY_SHARE = 4  # chunks being coded take a quarter of the memory


_Code = tuple[CodedBatch, Drift | None]


@dataclass(frozen=True, slots=True)
class First:
    """Where writing segments begins."""

    chunk: int = 0
    """Those before it are in segments already."""
    segment: int = 1
    """The number of the first segment to be written."""


@dataclass(frozen=True, slots=True)
class Segmented:
    """What has been written once a chunk is in its segment."""

    next_chunk: int
    sealed: SegmentInfo | None
    """The segment, if this chunk ended it."""
    drift: Drift | None
    """How far its vectors lie from what the codebook was learned from, if that was asked for."""


def write_segments(
    path: Path,
    source: Source,
    spool: Spool,
    codebook: Codebook,
    *,
    first: First,
    told: Rising,
    drifting: bool = False,
) -> Iterator[Segmented]:
    """Write the spool's chunks into segments; each is durable when sealed.

    With `drifting`, the drift of each chunk is measured. `told` rises from where it is: with what the encoder has encoded, some
    chunks ahead, or where nothing is left to encode, with what is in a segment.

    Raises:
        DiskSpaceError: the disk is full.
    """
    params, chunks, number, done = source.params, spool.chunk_count(), first.segment, told.done
    writer: SegmentWriter | None = None
    columns: tuple[bool, ...] = ()
    batches = _batches(source, spool, range(first.chunk, chunks), told)
    for chunk, batch, coded, drift in _coded(batches, codebook, params, drifting):
        if writer is not None and columns != _columns(batch):
            yield Segmented(chunk, writer.seal(), None)
            writer, number = None, number + 1
        writer, columns = writer or _new_segment(path, number, codebook), _columns(batch)
        _append(writer, batch, coded, _payloads(source, spool, chunk, batch))
        following = spool.document_count(chunk + 1) if chunk + 1 < chunks else 0
        full = writer.n_tokens >= params.segment_tokens or writer.n_documents + following > MAX_DOCUMENTS
        sealed = None
        if full or not following:
            sealed, writer, number = writer.seal(), None, number + 1
        done += len(batch.tokens)
        told.at_least(done)
        yield Segmented(chunk + 1, sealed, drift)


def new_ids(spool: Spool, segments: Sequence[SegmentInfo]) -> Iterator[tuple[str, int, int]]:
    """Where each id of the spool is in the segments that were made of it."""
    ids = (id_ for chunk in range(spool.chunk_count()) for id_ in spool.ids(chunk))
    places = ((int(info.name), document) for info in segments for document in range(info.documents))
    return ((id_, *place) for id_, place in zip(ids, places, strict=True))


def thread_count(params: BuildParams) -> int:
    """How many threads share the work."""
    return params.threads or os.cpu_count() or 1


def _batches(source: Source, spool: Spool, chunks: range, told: Rising) -> Iterator[tuple[int, PooledBatch]]:
    """The vectors of some chunks; what is encoded for it is told batch by batch."""
    done = told.done
    for chunk in chunks:
        batch = source.tokens(spool, chunk, told.beyond(done))
        done += len(batch.tokens)
        yield chunk, batch


def _coded(
    batches: Iterator[tuple[int, PooledBatch]], codebook: Codebook, params: BuildParams, drifting: bool
) -> Iterator[tuple[int, PooledBatch, CodedBatch, Drift | None]]:
    """Chunks with their records, in order.

    Where kernels get in nobody's way, some chunks are coded while others are read, encoded or written: as many as there
    are threads, as far as memory allows.
    """
    threads = thread_count(params)
    at_once = max(1, min(threads, parse_bytes(params.memory) // _MEMORY_SHARE // CHUNK_CODING_BYTES))

    def code(batch: PooledBatch, threads: int) -> _Code:
        tokens = batch.tokens
        projected = codebook.project(tokens.vectors)
        coded = codebook.encode(projected, tokens.offsets, tokens.token_ids, threads=threads)
        return coded, measure(codebook, projected, coded.centroids, tokens.token_ids) if drifting else None

    if not INDEPENDENT:
        yield from ((number, batch, *code(batch, threads)) for number, batch in batches)
        return
    waiting: deque[tuple[int, PooledBatch, Future[_Code]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for number, batch in batches:
                waiting.append((number, batch, pool.submit(code, batch, -(-threads // at_once))))
                if len(waiting) > at_once:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            for _, _, future in waiting:
                future.cancel()


def _finished(
    number: int, batch: PooledBatch, code: Future[_Code]
) -> tuple[int, PooledBatch, CodedBatch, Drift | None]:
    return number, batch, *code.result()


def _new_segment(path: Path, number: int, codebook: Codebook) -> SegmentWriter:
    name = f"{number:06d}"
    remove_tree(segment_path(path, name))  # what a kill left of an earlier attempt
    return SegmentWriter(path, name, record_bytes=codebook.layout.record_bytes, n_centroids=len(codebook.centroids))


def _payloads(source: Source, spool: Spool, number: int, batch: PooledBatch) -> list[bytes]:
    """What comes back with hits: the documents themselves, or for vectors their ids alone."""
    if source.kind == "text":
        return spool.payloads(number)
    return [encode_document(Document(id=id_, text="")) for id_ in batch.tokens.ids]


def _columns(batch: PooledBatch) -> tuple[bool, ...]:
    """What is known of the vectors; a segment holds one kind."""
    return batch.source is not None, batch.tokens.token_ids is not None, batch.tokens.spans is not None


def _append(writer: SegmentWriter, batch: PooledBatch, coded: CodedBatch, payloads: list[bytes]) -> None:
    """Append one chunk."""
    tokens, source = batch.tokens, batch.source
    columns = {
        "token_ids": tokens.token_ids if source is None else source.token_ids,
        "spans": tokens.spans if source is None else source.spans,
        "pool_map": None if source is None else source.stored,
    }
    part = Part(
        records=coded.records,
        centroids=coded.centroids,
        offsets=coded.offsets,
        ids=tokens.ids,
        documents=payloads,
        columns={name: column for name, column in columns.items() if column is not None},
        source_offsets=None if source is None else source.offsets,
    )
    append_part(writer, part)


def append_part(writer: SegmentWriter, part: Part) -> None:
    """Append documents as they are; what conditions know of them is taken from their payloads."""
    documents = [decode_document(payload) for payload in part.documents]
    writer.append(
        part.records,
        part.centroids,
        part.offsets,
        part.ids,
        part.documents,
        source_offsets=part.source_offsets,
        titles=[document.title for document in documents],
        metadata=[document.metadata for document in documents],
        **part.columns,
    )
