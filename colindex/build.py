"""Build: documents in, a committed index on disk out, in bounded memory.

1. *Ingest*: read every document once into the spool, checking ids and content before any costly work.
2. *Sample*: choose documents at random and get their vectors. Small corpora are encoded whole, once, into the spool;
   large ones encode the chosen documents apart.
3. *Train*: learn the projection, the centroids and the residual levels; write the codebook.
4. *Encode*: chunk by chunk encode, pool, project, assign and code, and append to the open segment; seal it at its budget.
5. *Commit*: name codebook and segments in one catalog transaction. Only now is there an index.

After each chunk, the codebook and each sealed segment a killed build can go on, once it has read the documents again and found
them the same; borders of chunks and segments depend on the documents alone, so it ends with the bytes of an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from colindex.clustering import centroid_count
from colindex.codebook import Codebook, train_codebook
from colindex.errors import IndexExistsError, InputError, InvalidIdError, VectorError
from colindex.params import BuildParams
from colindex.progress import Progress, Report, Rising
from colindex.projection import Projection, learn_projection
from colindex.sampling import Sample, draw_sample
from colindex.segmenting import BESIDE_THE_RECORD, First, new_ids, thread_count, write_segments
from colindex.sources import Source
from colindex.staging import Staging, State
from colindex.storage.catalog import Catalog
from colindex.storage.directory import remove_tree, require_space
from colindex.storage.layout import codebook_path
from colindex.storage.lock import LOCK_NAME, WriterLock, read_only_is_said
from colindex.storage.manifest import Manifest
from colindex.storage.plain import read_arrays, write_arrays

__all__ = ["BuildReport", "build", "train"]

CODEBOOK = "codebook-000001"
PCA_SAMPLE = 65_536  # vectors: second moments of 1,024 dims need no more


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did."""

    documents: int
    tokens: int
    """Stored vectors, after pooling."""
    segments: int
    generation: int
    seconds: Mapping[str, float]
    """Time of each stage, over all attempts of a resumed build."""
    bytes: Mapping[str, int]
    """Bytes on disk by part."""


def build(path: Path, source: Source, params: BuildParams, *, resume: bool, report: Report) -> BuildReport:
    """Build an index at `path`.

    Raises:
        IndexExistsError: something is there already.
        CorpusError, DuplicateIdError, InvalidIdError, InputError: bad documents; nothing is left behind.
        ParameterError: resuming with other settings or other documents; the interrupted build stays as it was.
        DiskSpaceError: the disk is too small.
        IndexLockedError: another process is building here.
        IndexReadOnlyError: this process may not write there.
    """
    staging = Staging.of(path)
    resumed = _prepare(path, staging, resume)
    with WriterLock(path):
        fresh = State(source.kind, params, source.fingerprint)
        state = staging.resume(fresh) if resumed else staging.begin(fresh)
        with _nothing_left_behind(path, unless=resumed):
            state = _ingest(source, staging, state, report)
            codebook, state = _codebook(path, source, staging, state, report)
        state = _encode(path, source, staging, state, codebook, report)
        manifest = _commit(path, staging, state, codebook, report)
        staging.remove()
    report(Progress("commit", manifest.documents, manifest.documents))
    return _report(manifest, state)


def _prepare(path: Path, staging: Staging, resume: bool) -> bool:
    """Make the folder, or find the interrupted build in it; whether there is one to resume.

    Raises:
        IndexExistsError: the folder holds something else, or a build that was not asked to be resumed.
    """
    if staging.exists():
        if not resume:
            raise IndexExistsError(
                f"{path}: a build was begun here and not finished; continue it with --resume (resume=True), "
                "or delete the folder."
            )
        return True
    begun = {
        LOCK_NAME,
        staging.folder.name,
    }  # all that there is of a build that was killed before it had noted anything
    if path.exists() and (not path.is_dir() or any(child.name not in begun for child in path.iterdir())):
        if resume:
            raise IndexExistsError(
                f"{path}: expected an unfinished build to resume, but something else exists already, such as a finished "
                "index; use that as it is, or choose another folder."
            )
        raise IndexExistsError(f"{path}: expected a new folder, but it exists already; delete it or choose another.")
    with read_only_is_said(path):
        path.mkdir(parents=True, exist_ok=True)
    return False


@contextmanager
def _nothing_left_behind(path: Path, *, unless: bool) -> Iterator[None]:
    """Remove the new folder if its documents turn out to be bad; anything else keeps it, to be resumed."""
    try:
        yield
    except (InputError, InvalidIdError):
        if not unless:
            remove_tree(path)
        raise


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def _ingest(source: Source, staging: Staging, state: State, report: Report) -> State:
    """Stage 1; of an interrupted build that has finished it, the check that these are the same documents."""
    seconds = dict(state.seconds)
    with _timed(seconds, "ingest"):
        found = source.ingest(replace(staging.spool, complete=state.ingested), report)
    if state.ingested:
        return replace(state, seconds=seconds)
    return staging.save(
        replace(state, ingested=True, documents=found.documents, estimated_tokens=found.tokens, seconds=seconds)
    )


def _codebook(path: Path, source: Source, staging: Staging, state: State, report: Report) -> tuple[Codebook, State]:
    """Stages 2 and 3, or the codebook that an interrupted build has finished."""
    if state.codebook is not None:
        return Codebook.from_arrays(*read_arrays(codebook_path(path, CODEBOOK), state.codebook)), state
    seconds = dict(state.seconds)
    with _timed(seconds, "sample"):
        sample = draw_sample(source, staging, state, report)
    with _timed(seconds, "train"):
        report(Progress("train", 0, 1, "codebooks"))
        codebook = train(sample, state.params)
        files = write_arrays(codebook_path(path, CODEBOOK), *codebook.to_arrays())
        report(Progress("train", 1, 1, "codebooks"))
    return codebook, staging.save(replace(state, codebook=files, seconds=seconds))


def train(sample: Sample, params: BuildParams, projection: Projection | None = None) -> Codebook:
    """Stage 3, from one pass over the sample; from two where a projection to fewer dimensions has to be learned first.

    Args:
        sample: what to learn from.
        params: how many centroids and bits.
        projection: the one to use; None learns one.
    """
    if projection is None:
        input_dim = sample.input_dim
        learns_axes = params.dim is not None and params.dim < input_dim
        few = sample.some(PCA_SAMPLE, params.seed) if learns_axes else np.empty((0, input_dim), np.float32)
        projection = learn_projection(few, params.dim, params.seed)
    vectors, token_ids = sample.projected(projection, threads=thread_count(params))
    if not len(vectors):
        raise VectorError("no token vectors: expected at least one among all documents to learn a codebook, got none.")
    return train_codebook(
        vectors,
        token_ids,
        projection,
        n_centroids=params.centroids or centroid_count(sample.tokens_in_corpus),
        bits=params.bits,
        seed=params.seed,
        threads=thread_count(params),
    )


def _encode(path: Path, source: Source, staging: Staging, state: State, codebook: Codebook, report: Report) -> State:
    """Stage 4, from the first chunk that is in no sealed segment."""
    spool, seconds = staging.spool, dict(state.seconds)
    left = 1 - sum(info.documents for info in state.sealed) / state.documents
    needed = round(left * state.estimated_tokens * (codebook.layout.record_bytes + BESIDE_THE_RECORD))
    require_space(path, needed, "the segments of the index")
    done = sum(info.documents for info in state.sealed)
    with _timed(seconds, "encode"):
        told, first = Rising("encode", state.documents, report, done), First(state.next_chunk, len(state.sealed) + 1)
        for step in write_segments(path, source, spool, codebook, first=first, told=told):
            if step.sealed is not None:
                state = staging.save(replace(state, sealed=(*state.sealed, step.sealed), next_chunk=step.next_chunk))
    return replace(state, seconds=seconds)


def _commit(path: Path, staging: Staging, state: State, codebook: Codebook, report: Report) -> Manifest:
    """Stage 5; it is done already if the kill that is being resumed from came after it."""
    report(Progress("commit", 0, state.documents))
    manifest = Manifest(
        generation=1,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dim=codebook.dim,
        input_dim=codebook.input_dim,
        bits=codebook.codec.bits,
        codec=codebook.codec.name,
        params=asdict(state.params),
        encoder=None if state.fingerprint is None else dict(state.fingerprint),
        codebook=CODEBOOK,
        codebook_files=dict(state.codebook or {}),
        segments=state.sealed,
        next_segment=len(state.sealed) + 1,
        documents=sum(info.documents for info in state.sealed),
        tokens=sum(info.tokens for info in state.sealed),
    )
    with Catalog.open_writer(path) as catalog:
        if not catalog.generation:
            catalog.commit(manifest, new_ids(staging.spool, state.sealed))
        return catalog.manifest()


def _report(manifest: Manifest, state: State) -> BuildReport:
    parts: dict[str, int] = {"codebook": sum(size for size, _ in manifest.codebook_files.values())}
    for info in manifest.segments:
        for part, size in info.bytes_by_part.items():
            parts[part] = parts.get(part, 0) + size
    return BuildReport(
        documents=manifest.documents,
        tokens=manifest.tokens,
        segments=len(manifest.segments),
        generation=manifest.generation,
        seconds=dict(state.seconds),
        bytes=parts,
    )
