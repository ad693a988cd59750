"""Small indexes for the tests of storage, the same bytes for the same seed, and what those look at in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colindex.storage.catalog import Catalog, catalog_path
from colindex.storage.layout import codebook_path
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import Manifest
from colindex.storage.plain import write_arrays
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import SegmentInfo, SegmentReader

CENTROIDS = 20
RECORD_BYTES = 12


@dataclass(frozen=True)
class Batch:
    """What one `append` is given, without pooling."""

    records: NDArray[np.uint8]
    centroids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    ids: Sequence[str]
    documents: Sequence[bytes]
    token_ids: NDArray[np.int32]
    spans: NDArray[np.int32]


def batch(
    lengths: Sequence[int],
    first: int = 0,
    *,
    seed: int = 0,
    centroids: int = CENTROIDS,
    record_bytes: int = RECORD_BYTES,
) -> Batch:
    """Documents of these many vectors each, named `doc-<number>` from `first` on."""
    rng = np.random.default_rng([seed, first])
    tokens, width = sum(lengths), 2 if centroids <= 1 << 16 else 4
    chosen = rng.integers(0, centroids, tokens).astype(np.uint32)
    records = rng.integers(0, 256, (tokens, record_bytes)).astype(np.uint8)
    records[:, :width] = chosen.astype(f"<u{width}")[:, None].view(np.uint8)
    numbers = range(first, first + len(lengths))
    return Batch(
        records=records,
        centroids=chosen,
        offsets=np.cumsum([0, *lengths]),
        ids=[f"doc-{number}" for number in numbers],
        documents=[json.dumps({"text": f"the text of {number} " * (number % 7)}).encode() for number in numbers],
        token_ids=rng.integers(0, 30_000, tokens).astype(np.int32),
        spans=rng.integers(0, 500, (tokens, 2)).astype(np.int32),
    )


def write_segment(path: Path, name: str, *batches: Batch, centroids: int = CENTROIDS) -> SegmentInfo:
    """A sealed segment of some batches."""
    record_bytes = batches[0].records.shape[1]
    with SegmentWriter(path, name, record_bytes=record_bytes, n_centroids=centroids) as writer:
        for b in batches:
            writer.append(b.records, b.centroids, b.offsets, b.ids, b.documents, b.token_ids, b.spans)
        return writer.seal()


def first_manifest(path: Path) -> Manifest:
    """The manifest of an index without segments, after writing its codebook."""
    centroids = np.linspace(-1, 1, CENTROIDS * 8).astype(np.float16).reshape(CENTROIDS, 8)
    files = write_arrays(codebook_path(path, "codebook-000001"), {"centroids": centroids}, {"bits": 2})
    return Manifest(
        generation=1,
        created="2026-01-01T00:00:00+00:00",
        dim=8,
        input_dim=8,
        bits=2,
        codec="test",
        params={"seed": 0},
        encoder=None,
        codebook="codebook-000001",
        codebook_files=files,
        segments=(),
        next_segment=1,
        documents=0,
        tokens=0,
    )


def with_segment(manifest: Manifest, info: SegmentInfo, *, first: bool = False) -> Manifest:
    """The next manifest, with one segment more."""
    return replace(
        manifest,
        generation=manifest.generation + (not first),
        segments=(*manifest.segments, info),
        next_segment=manifest.next_segment + 1,
        documents=manifest.documents + info.documents,
        tokens=manifest.tokens + info.tokens,
    )


def write_index(path: Path, lengths: Sequence[int] = (5, 0, 17, 3, 8), segments: int = 1) -> Manifest:
    """A committed index; each segment is a generation of its own."""
    path.mkdir()
    with WriterLock(path), Catalog.open_writer(path) as catalog:
        manifest = first_manifest(path)
        for _ in range(segments):
            manifest = add_segment(path, catalog, manifest, lengths)
    return manifest


def add_segment(path: Path, catalog: Catalog, manifest: Manifest, lengths: Sequence[int]) -> Manifest:
    """Write, seal and commit one more segment."""
    number = manifest.next_segment
    documents = batch(lengths, manifest.documents)
    info = write_segment(path, f"{number:06d}", documents)
    manifest = with_segment(manifest, info, first=catalog.generation == 0)
    catalog.commit(manifest, ((id, number, place) for place, id in enumerate(documents.ids)))
    return manifest


def data_file(index: Path) -> Path:
    return catalog_path(index) / "data.mdb"


def opened(index: Path) -> tuple[int, tuple[int, int] | None]:
    with Catalog.open_reader(index) as catalog:
        assert {id: (segment, document) for id, segment, document in catalog.ids()}.items() >= found(catalog).items()
        return catalog.generation, catalog.locate("doc-7")


def found(catalog: Catalog) -> dict[str, tuple[int, int]]:
    places = {f"doc-{number}": catalog.locate(f"doc-{number}") for number in range(catalog.n_documents)}
    return {id: place for id, place in places.items() if place is not None}


def empty_generation(manifest: Manifest, generation: int) -> Manifest:
    return replace(manifest, generation=generation)


def stored_records(reader: SegmentReader) -> bytes:
    return b"".join(shard.path.read_bytes()[: shard.data_bytes] for shard in reader.shards)
