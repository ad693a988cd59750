"""What does a residual codec cost, and what does it lose?

    python -m benchmarks.codecs --vectors DOCS.npz --queries QUERIES.npz [--dim 128] [--bits 1 --bits 2 --bits 4]

DOCS.npz and QUERIES.npz hold `v` (float16 token vectors [tokens, dim]), `i` (vocabulary ids, int32) and `o` (offsets,
int64). One line a codec and width:

1. Project and cluster as a build does; residuals are vectors minus their centroids.
2. Train each codec on a sample of the residuals; measure its squared error, as a share of the residuals' energy, on
   other residuals, and the processor time of coding and decoding them on one thread.
3. Code every residual, decode, score every document, and count how much of the exact top 10 (MaxSim on the projected
   float32 vectors) comes back: with decoded vectors as they are, and brought back to unit length.

Besides the product's codec (trellis), two competitors at the same bytes: the best scalar levels (lloyd-max) and a
product quantizer of 8-bit sub-codes (pq; faiss). All divide a residual by its own length and store it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click
import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from colindex.clustering import centroid_count, cluster
from colindex.codec import train_codec
from colindex.projection import learn_projection

_TOP = 10
_TRAIN, _TEST = 32_768, 4_096
_DOCUMENTS = 64  # scored at a time
_COLUMNS = ("codec", "bytes", "error", "recall@10", "unit recall@10", "encode us/token", "decode ns/token")


class _Directions(Protocol):
    """A code of residuals of root mean square 1; what is stored besides is one length for each."""

    def encode(self, scaled: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Codes, uint8 [n, any], of directions, float32 [n, dim]."""

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Directions, float32 [n, dim], of codes."""


@dataclass(frozen=True, slots=True)
class _Collection:
    """Projected documents, their centroids, some queries and the exact answers."""

    vectors: NDArray[np.float32]
    centroids: NDArray[np.float32]
    assigned: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    queries: NDArray[np.float32]
    query_offsets: NDArray[np.int64]
    exact: NDArray[np.int64]

    def residuals(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors minus their centroids, float32 [rows, dim]."""
        return self.vectors[rows] - self.centroids[self.assigned[rows]]


class Trellis:
    """The product's codec."""

    def __init__(self, sample: NDArray[np.float32], bits: int) -> None:
        self._codec = train_codec(sample, bits, seed=0, threads=1)

    def encode(self, scaled: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Codes of directions."""
        return self._codec.encode(scaled)[0]

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Directions of codes."""
        return self._codec.decode(codes, np.ones(len(codes), np.float16))


class LloydMax:
    """Scalar levels of least error (Lloyd, 1957; Max, 1960); one byte a value here, whatever the width."""

    def __init__(self, sample: NDArray[np.float32], bits: int) -> None:
        values = np.sort(sample.ravel()[:: max(sample.size // 2**20, 1)].astype(np.float64))
        levels = np.quantile(values, (np.arange(1 << bits) + 0.5) / (1 << bits))
        for _ in range(200):
            cells = np.concatenate([[0], np.searchsorted(values, (levels[1:] + levels[:-1]) / 2), [len(values)]])
            sums = np.concatenate([[0], np.cumsum(values)])[cells]
            levels = np.where(np.diff(cells) > 0, np.diff(sums) / np.maximum(np.diff(cells), 1), levels)
        self._levels = levels.astype(np.float32)
        self._edges = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)

    def encode(self, scaled: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Codes of directions."""
        return np.searchsorted(self._edges, scaled).astype(np.uint8)

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Directions of codes."""
        return self._levels[codes]


class ProductQuantizer:
    """One 8-bit sub-code for every 8 / bits dimensions (Jegou et al., 2011)."""

    def __init__(self, sample: NDArray[np.float32], bits: int) -> None:
        self._quantizer = faiss.ProductQuantizer(sample.shape[1], sample.shape[1] * bits // 8, 8)
        self._quantizer.train(np.ascontiguousarray(sample))

    def encode(self, scaled: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Codes of directions."""
        return np.asarray(self._quantizer.compute_codes(scaled), np.uint8)

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Directions of codes."""
        decoded = self._quantizer.decode(codes)  # type: ignore[call-arg, func-returns-value]
        return np.asarray(decoded, np.float32)


def _load(vectors: Path, queries: Path, dim: int | None, limit: int) -> _Collection:
    with np.load(vectors) as documents, np.load(queries) as asked:
        raw, token_ids, offsets = documents["v"], documents["i"], documents["o"]
        sample = raw[np.random.default_rng(0).permutation(len(raw))[:100_000]]
        projection = learn_projection(sample, dim, 0)
        projected = projection.apply(raw)
        query_offsets = asked["o"][: limit + 1]
        query_vectors = projection.apply(asked["v"][: query_offsets[-1]])
    clustering = cluster(projected, token_ids, centroid_count(len(projected)), seed=0, threads=1)
    assigned = clustering.assign(projected, token_ids, threads=1)
    exact = _top(lambda rows: projected[rows], offsets, query_vectors, query_offsets)
    return _Collection(projected, clustering.centroids, assigned, offsets, query_vectors, query_offsets, exact)


def _top(
    vectors_of: Callable[[slice], NDArray[np.float32]],
    offsets: NDArray[np.int64],
    queries: NDArray[np.float32],
    query_offsets: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The documents of highest MaxSim for each query, int64 [queries, 10]; every document is scored."""
    scores = []
    for first in range(0, len(offsets) - 1, _DOCUMENTS):
        bounds = offsets[first : first + _DOCUMENTS + 1]
        products = vectors_of(slice(int(bounds[0]), int(bounds[-1]))) @ queries.T
        maxima = np.maximum.reduceat(products, bounds[:-1] - bounds[0], axis=0)
        scores.append(np.add.reduceat(maxima, query_offsets[:-1], axis=1))
    return np.argsort(-np.concatenate(scores), axis=0, kind="stable")[:_TOP].T


def _scaled(residuals: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    lengths = np.sqrt(np.square(residuals).mean(axis=1, keepdims=True, dtype=np.float32))
    scaled = np.asarray(residuals / np.where(lengths > 0, lengths, 1), np.float32)
    return scaled, lengths


def _recalls(codec: _Directions, collection: _Collection) -> tuple[float, float]:
    """Recall of the exact top 10 with decoded vectors as they are, and of unit length."""

    def decoded(rows: slice) -> NDArray[np.float32]:
        scaled, lengths = _scaled(collection.residuals(rows))
        directions = codec.decode(codec.encode(scaled))
        own = np.sqrt(np.square(directions).mean(axis=1, keepdims=True))
        factors = (lengths / np.where(own > 0, own, 1)).astype(np.float16)
        return collection.centroids[collection.assigned[rows]] + factors * directions

    vectors = np.concatenate(
        [decoded(slice(start, start + 2**16)) for start in range(0, len(collection.vectors), 2**16)]
    )
    as_stored = _recall(vectors, collection)
    return as_stored, _recall(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), collection)


def _recall(vectors: NDArray[np.float32], collection: _Collection) -> float:
    """Share of the exact top 10 in the top 10 by `vectors`."""
    found = _top(lambda rows: vectors[rows], collection.offsets, collection.queries, collection.query_offsets)
    shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), collection.exact.tolist(), strict=True)]
    return float(np.mean(shared)) / _TOP


def _measured(codec: _Directions, test: NDArray[np.float32]) -> tuple[float, float, float]:
    """Error as a share of the energy, seconds of coding and of decoding a vector."""
    start = time.process_time()
    codes = codec.encode(test)
    coded = time.process_time()
    directions = codec.decode(codes)
    decoded = time.process_time()
    error = float(np.square(directions - test).sum() / np.square(test).sum())
    return error, (coded - start) / len(test), (decoded - coded) / len(test)


def _lines(collection: _Collection, bits: tuple[int, ...], codecs: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    chosen = np.random.default_rng(1).permutation(len(collection.vectors))[: _TRAIN + _TEST]
    scaled, _ = _scaled(collection.residuals(chosen))
    sample, test = scaled[:_TRAIN], scaled[_TRAIN:]
    for width, name in itertools.product(bits, codecs):
        size = str(-(-scaled.shape[1] * width // 8))
        codec = _CODECS[name](sample, width)
        error, coding, decoding = _measured(codec, test)
        stored, unit = _recalls(codec, collection)
        yield name, size, f"{error:.4f}", f"{stored:.4f}", f"{unit:.4f}", f"{coding * 1e6:.1f}", f"{decoding * 1e9:.0f}"


_CODECS: dict[str, Callable[[NDArray[np.float32], int], _Directions]] = {
    "trellis": Trellis,
    "lloyd-max": LloydMax,
    "pq": ProductQuantizer,
}


@click.command(help=__doc__)
@click.option("--vectors", type=click.Path(exists=True, path_type=Path), required=True, help="Document vectors, .npz.")
@click.option("--queries", type=click.Path(exists=True, path_type=Path), required=True, help="Query vectors, .npz.")
@click.option("--dim", type=int, default=128, show_default=True, help="Dimensions to keep.")
@click.option("--bits", type=click.Choice(["1", "2", "4", "8"]), multiple=True, default=("2",), show_default=True)
@click.option(
    "--codec", "codecs", type=click.Choice([*_CODECS]), multiple=True, default=tuple(_CODECS), show_default=True
)
@click.option("--query-limit", type=int, default=150, show_default=True, help="Queries to use.")
def main(
    vectors: Path, queries: Path, dim: int, bits: tuple[str, ...], codecs: tuple[str, ...], query_limit: int
) -> None:
    """Print the table."""
    with threadpool_limits(1):
        collection = _load(vectors, queries, dim, query_limit)
        click.echo("\t".join(_COLUMNS))
        for line in _lines(collection, tuple(map(int, bits)), codecs):
            click.echo("\t".join(line))


if __name__ == "__main__":
    main()
