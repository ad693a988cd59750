"""Retraining: a new codebook, learned from the documents that an index holds now, and all of them coded anew with it.

1. *Ingest* every document that is not deleted, in order, into a spool beside the index.
2. *Sample* and *train* as a build does.
   - Of texts, where the encoder is at hand, the texts: the index becomes the one that a build of its documents would make.
   - Otherwise the stored vectors, decoded (`Decoded`). They are in the stored space already, so the projection is kept. What
     the old codes lost stays lost, and coding again loses about as much once more: next to nothing at 8 bits, 1 to 3 points of
     the exact top 10 at 2 (docs/LOG.md), a tenth of that of random vectors. Better become the candidates that searching
     finds, and the records of what comes after.
3. *Encode* everything into new segments.
4. *Commit* codebook and segments in one transaction. Drift is measured from here on.

A crash leaves the last generation as it was; retraining begins again from the first document.

Disk: the new index beside the old one, and the spool: the texts, and of vectors what the codebook is learned from.
Memory: as a build's, and one open segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colindex.build import train
from colindex.change import check_source
from colindex.codebook import Codebook, SearchCodebook
from colindex.kernels import chosen as kernels
from colindex.params import BuildParams
from colindex.progress import Progress, Report, Rising
from colindex.projection import Projection
from colindex.sampling import Sample, draw_sample, sample_tokens
from colindex.segmenting import First, new_ids, write_segments
from colindex.sources import Encoded, Ingested, Source, TextSource
from colindex.spool import CHUNK_VECTOR_BYTES, Spool, decode_document
from colindex.staging import Staging, State
from colindex.storage.catalog import Catalog
from colindex.storage.directory import remove_tree
from colindex.storage.layout import codebook_path, next_codebook
from colindex.storage.manifest import Manifest
from colindex.storage.plain import read_arrays, write_arrays
from colindex.storage.scanning import LiveSegment, Part, deleted_documents, scan
from colindex.storage.segments import SegmentInfo, SegmentReader
from colindex.types import Document, PooledBatch, SourceTokens, TextEncoder, TokenBatch

__all__ = ["Decoded", "retrain_index"]

_FOLDER = "retraining"


def retrain_index(path: Path, catalog: Catalog, encoder: TextEncoder | None, report: Report) -> Manifest:
    """Give an index a new codebook and new segments; the caller holds the `WriterLock`. Returns the manifest that was committed.

    Raises:
        EncoderMismatchError: the encoder is not the one that the index was built with.
        CorruptIndexError, DiskSpaceError
    """
    manifest = catalog.manifest()
    params = BuildParams.of_index(manifest.params)
    with _staging(path) as staging:
        if manifest.encoder is not None and encoder is not None:
            source: Source = TextSource(_documents(path, manifest), encoder, params)
            check_source(path, manifest, source)
            ingested = source.ingest(staging.spool, report)
            state = State(source.kind, params, source.fingerprint, True, ingested.documents, ingested.tokens)
            sample = draw_sample(source, staging, state, report)
            codebook = stored = _trained(sample, params, None, report)
        else:
            old = _open_codebook(path, manifest)
            source = decoded = Decoded(path, manifest, old, params)
            ingested = source.ingest(staging.spool, report)
            sample = decoded.sample(staging.sample, ingested, report)
            codebook = _trained(sample, params, _unprojected(old), report)
            stored = replace(codebook, projection=old.projection)
        name = next_codebook(manifest.codebook)
        files = write_arrays(codebook_path(path, name), *stored.to_arrays())
        told, first = Rising("encode", ingested.documents, report), First(segment=manifest.next_segment)
        steps = write_segments(path, source, staging.spool, codebook, first=first, told=told)
        segments = tuple(step.sealed for step in steps if step.sealed is not None)
        following = manifest.next(
            codebook=name,
            codebook_files=files,
            segments=segments,
            next_segment=manifest.next_segment + len(segments),
            tombstones={},
            drift=None,
        )
        catalog.commit(following, new_ids(staging.spool, segments))
    return following


@dataclass(slots=True)
class Decoded:
    """The documents of an index as a source of vectors: its own, decoded, in the stored space."""

    path: Path
    manifest: Manifest
    codebook: SearchCodebook
    params: BuildParams
    kind: str = "text"
    """The spool holds the documents."""
    _chunks: list[tuple[SegmentInfo, int, int]] = field(default_factory=list)
    _open: LiveSegment | None = None

    @property
    def fingerprint(self) -> None:
        """No encoder makes these vectors."""
        return

    def ingest(self, spool: Spool, report: Report) -> Ingested:
        """Read the documents into the spool; their vectors stay where they are."""
        documents = tokens = 0
        rows = max(1, CHUNK_VECTOR_BYTES // (4 * self.codebook.layout.dim))
        for info in self.manifest.segments:
            for first, stop in self._segment(info).pieces(rows):
                part = self._segment(info).read(first, stop)
                spool.write_documents(len(self._chunks), [decode_document(payload) for payload in part.documents])
                self._chunks.append((info, first, stop))
                documents, tokens = documents + len(part), tokens + len(part.records)
                report(Progress("ingest", documents, self.manifest.documents))
        return Ingested(documents, tokens)

    def tokens(self, spool: Spool, chunk: int, encoded: Encoded | None = None) -> PooledBatch:
        """The vectors of one chunk."""
        info, first, stop = self._chunks[chunk]
        return self._batch(self._segment(info).read(first, stop))

    def sample(self, spool: Spool, ingested: Ingested, report: Report) -> Sample:
        """The vectors of documents chosen at random, in a spool of their own."""
        wanted = sample_tokens(self.params, self.codebook.layout.dim)
        chosen = np.random.default_rng(self.params.seed).random(ingested.documents) < wanted / ingested.tokens
        if not chosen.any():
            chosen[0] = True
        done = 0
        for chunk in range(len(self._chunks)):
            batch = self.tokens(spool, chunk).tokens
            spool.write_tokens(chunk, PooledBatch(_chosen(batch, chosen[done : done + len(batch)]), None))
            done += len(batch)
            report(Progress("sample", done, ingested.documents))
        return Sample(spool, None, np.zeros(1, np.int64), ingested.tokens)

    def _segment(self, info: SegmentInfo) -> LiveSegment:
        """One is open at a time."""
        if self._open is None or self._open.reader.info.name != info.name:
            self._open = LiveSegment(SegmentReader(self.path, info), deleted_documents(self.path, self.manifest, info))
        return self._open

    def _batch(self, part: Part) -> PooledBatch:
        vectors = kernels.decode_records(part.records, self.codebook.codes)
        token_ids, spans = part.columns.get("token_ids"), part.columns.get("spans")
        if part.source_offsets is None:
            return PooledBatch(TokenBatch(tuple(part.ids), vectors, part.offsets, token_ids, spans), None)
        stored = part.columns["pool_map"]
        source = SourceTokens(part.source_offsets, stored, token_ids, spans)
        firsts = _first_members(part.offsets, part.source_offsets, stored)
        token_ids, spans = (None if column is None else column[firsts] for column in (token_ids, spans))
        return PooledBatch(TokenBatch(tuple(part.ids), vectors, part.offsets, token_ids, spans), source)


def _trained(sample: Sample, params: BuildParams, projection: Projection | None, report: Report) -> Codebook:
    report(Progress("train", 0, 1, "codebooks"))
    codebook = train(sample, params, projection)
    report(Progress("train", 1, 1, "codebooks"))
    return codebook


def _documents(path: Path, manifest: Manifest) -> Iterator[Document]:
    for info in manifest.segments:
        for part in scan(SegmentReader(path, info), deleted_documents(path, manifest, info), columns=()):
            yield from map(decode_document, part.documents)


def _open_codebook(path: Path, manifest: Manifest) -> SearchCodebook:
    arrays = read_arrays(codebook_path(path, manifest.codebook), manifest.codebook_files)
    return SearchCodebook.from_arrays(*arrays)


def _unprojected(codebook: SearchCodebook) -> Projection:
    """The projection of vectors that are in the stored space: none."""
    return Projection(np.eye(codebook.layout.dim, dtype=np.float32), renormalize=False)


def _chosen(batch: TokenBatch, marks: NDArray[np.bool_]) -> TokenBatch:
    """The marked documents of a batch."""
    lengths = np.diff(batch.offsets)
    rows = np.repeat(marks, lengths)
    return TokenBatch(
        ids=tuple(id_ for id_, mark in zip(batch.ids, marks, strict=True) if mark),
        vectors=batch.vectors[rows],
        offsets=np.concatenate([[0], np.cumsum(lengths[marks])]),
        token_ids=None if batch.token_ids is None else batch.token_ids[rows],
    )


def _first_members(
    offsets: NDArray[np.int64], source_offsets: NDArray[np.int64], stored: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The first source token of each stored vector."""
    owners = np.repeat(offsets[:-1], np.diff(source_offsets)) + stored
    firsts: NDArray[np.int64] = np.unique(owners, return_index=True)[1]
    return firsts


@contextmanager
def _staging(path: Path) -> Iterator[Staging]:
    staging = Staging(path / _FOLDER)
    remove_tree(staging.folder)
    staging.spool.create()
    staging.sample.create()
    try:
        yield staging
    finally:
        remove_tree(staging.folder)
