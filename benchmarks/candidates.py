"""How good are the candidates: share of the exact top 10 among the first C gathered documents.

    python -m benchmarks.candidates --vectors DOCS.npz --queries QUERIES.npz [--dim 128]

DOCS.npz and QUERIES.npz hold `v` (float16 token vectors [tokens, dim]), `i` (vocabulary ids, int32) and `o` (offsets,
int64). "Exact" is MaxSim on the projected float32 vectors, before any coding. One thread; times are medians a query.

1. Learn projection and centroids from all document vectors, assign, invert.
2. Score every document for every query.
3. For each nprobe: probe, gather, rank, and count the exact top 10 among the first C.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from colindex.clustering import Clustering, centroid_count, cluster
from colindex.kernels.reference import best, gather, invert, top_centroids
from colindex.projection import learn_projection

_TOP = 10
_EXACT_DOCUMENTS, _EXACT_TOKENS = 400, 512
"""Documents and query tokens multiplied at a time by the exhaustive search."""


@dataclass(frozen=True, slots=True)
class _Collection:
    """Projected documents and queries with their clustering and postings."""

    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]
    queries: list[NDArray[np.float32]]
    clustering: Clustering
    postings: NDArray[np.uint16] | NDArray[np.uint32]
    postings_offsets: NDArray[np.int64]


def _load(vectors: Path, queries: Path, dim: int | None, seed: int) -> _Collection:
    with np.load(vectors) as documents, np.load(queries) as asked:
        offsets, token_ids = documents["o"], documents["i"]
        projection = learn_projection(documents["v"], dim, seed)
        projected = projection.apply(documents["v"])
        query_vectors = projection.apply(asked["v"])
        parts = np.split(query_vectors, asked["o"][1:-1])
    clustering = cluster(projected, token_ids, centroid_count(len(projected)), seed=seed, threads=1)
    assigned = clustering.assign(projected, token_ids, threads=1)
    return _Collection(projected, offsets, parts, clustering, *invert(assigned, offsets, len(clustering.centroids)))


def _exact_tops(collection: _Collection) -> list[NDArray[np.int64]]:
    """The ten best documents of each query by MaxSim over all; every product serves many documents and queries."""
    offsets, tokens = collection.offsets, np.concatenate(collection.queries)
    bounds = np.cumsum([0, *map(len, collection.queries)])
    scores = np.empty((len(collection.queries), len(offsets) - 1), np.float32)
    maxima = np.empty((len(tokens), _EXACT_DOCUMENTS), np.float32)
    for first in range(0, len(offsets) - 1, _EXACT_DOCUMENTS):
        part = offsets[first : first + _EXACT_DOCUMENTS + 1]
        vectors = collection.vectors[part[0] : part[-1]].T
        for start in range(0, len(tokens), _EXACT_TOKENS):
            similarities = tokens[start : start + _EXACT_TOKENS] @ vectors
            block = np.maximum.reduceat(similarities, part[:-1] - part[0], axis=1)
            maxima[start : start + _EXACT_TOKENS, : len(part) - 1] = block
        scores[:, first : first + len(part) - 1] = np.add.reduceat(maxima[:, : len(part) - 1], bounds[:-1], axis=0)
    return [best(row, _TOP) for row in scores]


def _measure(
    collection: _Collection, tops: list[NDArray[np.int64]], nprobe: int, depths: list[int]
) -> tuple[list[float], float, float]:
    """Share of the exact top 10 within each depth, median postings walked, median milliseconds of probe and gather."""
    found = np.zeros(len(depths))
    walked, seconds = [], []
    for query, top in zip(collection.queries, tops, strict=True):
        started = time.perf_counter()
        ids, scores = top_centroids(query, collection.clustering.centroids, nprobe, collection.clustering.spreads)
        documents, gathered, entries = gather(
            ids, scores, collection.postings, collection.postings_offsets, len(collection.offsets) - 1
        )
        ranked = documents[best(gathered, max(depths))]
        seconds.append(time.perf_counter() - started)
        walked.append(entries)
        found += [np.isin(top, ranked[:depth]).mean() for depth in depths]
    return list(found / len(tops)), float(np.median(walked)), float(np.median(seconds) * 1000)


@click.command()
@click.option("--vectors", type=click.Path(exists=True, path_type=Path), required=True, help="Documents, .npz.")
@click.option("--queries", type=click.Path(exists=True, path_type=Path), required=True, help="Queries, .npz.")
@click.option("--dim", type=int, default=128, show_default=True, help="Dimensions to project to.")
@click.option("--nprobe", "probes", type=int, multiple=True, default=(32, 64, 128, 256), show_default=True)
@click.option("--depth", "depths", type=int, multiple=True, default=(64, 128, 256, 512, 1024), show_default=True)
@click.option("--limit", type=int, default=None, help="Use only the first queries.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(
    vectors: Path,
    queries: Path,
    dim: int,
    probes: tuple[int, ...],
    depths: tuple[int, ...],
    limit: int | None,
    seed: int,
) -> None:
    """Print nprobe x candidates -> share of the exact top 10, postings walked, milliseconds."""
    with threadpool_limits(limits=1):
        collection = _load(vectors, queries, dim, seed)
        collection.queries[:] = collection.queries[:limit]
        tops = _exact_tops(collection)
        table = Table("nprobe", *[f"first {depth}" for depth in depths], "postings", "ms")
        for nprobe in probes:
            shares, walked, milliseconds = _measure(collection, tops, nprobe, list(depths))
            table.add_row(str(nprobe), *[f"{share:.4f}" for share in shares], f"{walked:,.0f}", f"{milliseconds:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
