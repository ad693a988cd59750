"""Codebook: the one thing that coding, probing and decoding share, `TokenBatch <-> CodedBatch`.

A stored vector x is written as

1. *project*: y = x · projection (an optional PCA, then a random rotation; queries go the same way, so dot products stay);
2. *assign*: the centroid c nearest to y, among those of the token's own vocabulary id where there are token ids;
3. *code*: the residual y - c as a length and a packed direction (`colindex.codec`);
4. *pack*: centroid id, length and code side by side: one record (`colindex.records`).

Decoding (`colindex.kernels`) goes back from a record to c + length · direction, in the projected space, brought back to unit
length where the vectors had it: that takes away the error along the vector itself, which a best match feels most
(docs/LOG.md). At 32 bits the code is y itself. A token's record depends on that token alone: not on its neighbours, its batch or
the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from colindex.cells import in_cells
from colindex.clustering import Clustering, cluster
from colindex.codec import Codec, codec_from_arrays, train_codec
from colindex.errors import VectorError
from colindex.expansion import expand
from colindex.kernels.tables import PLAIN_BITS, CodeTable, ProbeTable, code_table
from colindex.projection import Projection
from colindex.records import RecordLayout
from colindex.types import CodedBatch

__all__ = ["Codebook", "SearchCodebook", "train_codebook"]

_UNIT_TOLERANCE = 1e-2
_CODEC_SAMPLE = 65_536  # residuals that the codec's levels are learned from: more moves them by less than 1e-3


@dataclass(frozen=True, slots=True)
class Codebook:
    """Projection, centroids and residual codec of one index."""

    projection: Projection
    clustering: Clustering
    codec: Codec
    layout: RecordLayout
    unit: bool
    """Whether the vectors have unit length; decoded ones are then brought back to it."""
    residual_energy: float
    """Mean squared residual over mean squared length on the training sample: what later additions are compared with.
    Expansion keeps it."""

    @property
    def input_dim(self) -> int:
        """Values in a vector as users hand it in."""
        return int(self.projection.matrix.shape[0])

    @property
    def dim(self) -> int:
        """Values in a stored vector."""
        return int(self.projection.matrix.shape[1])

    @property
    def centroids(self) -> NDArray[np.float32]:
        """float32 [centroids, dim]."""
        return self.clustering.centroids

    def project(self, vectors: NDArray[np.floating], *, where: str = "vectors") -> NDArray[np.float32]:
        """Bring vectors [n, input_dim] into the stored space, float32 [n, dim].

        Raises:
            VectorError: they have another dim than the index.
        """
        return _projected(self.projection, vectors, where)

    def encode(
        self,
        projected: NDArray[np.float32],
        offsets: NDArray[np.int64],
        token_ids: NDArray[np.int32] | None,
        *,
        threads: int = 1,
    ) -> CodedBatch:
        """Code projected vectors, float32 [n, dim], into records."""
        centroids = self.clustering.assign(projected, token_ids, threads=threads)
        codes, lengths = self.codec.encode_around(projected, self.centroids, centroids, threads=threads)
        return CodedBatch(self.layout.pack(centroids, lengths, codes), centroids, offsets)

    def expanded(
        self,
        projected: NDArray[np.float32],
        token_ids: NDArray[np.int32] | None,
        *,
        n_centroids: int,
        seed: int,
        threads: int,
    ) -> Codebook:
        """This codebook with centroids of their own for vectors that lie far from all there are (`colindex.expansion`).

        Centroids keep their numbers, and records decode to the same bits. The codebook itself comes back where nothing
        is to be added.

        Args:
            projected: a sample of what is being added, float32 [n, dim], from `project`.
            token_ids: int32 [n], the vocabulary id of each, or None.
            n_centroids: as many as there shall be in all, at most; ids keep their bytes in a record.
            seed: seed of the clustering.
            threads: how many share the work.
        """
        count = min(n_centroids, self.layout.most_centroids) - len(self.centroids)
        clustering = expand(
            self.clustering, projected, token_ids, count, energy=self.residual_energy, seed=seed, threads=threads
        )
        if clustering is self.clustering:
            return self
        return replace(self, clustering=clustering, layout=replace(self.layout, n_centroids=len(clustering.centroids)))

    def to_arrays(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Named arrays and attributes, as `from_arrays` takes them."""
        arrays: dict[str, NDArray[np.generic]] = {"projection": self.projection.matrix}
        arrays |= {f"clustering.{name}": array for name, array in self.clustering.arrays().items()}
        arrays |= {f"codec.{name}": array for name, array in self.codec.arrays().items()}
        attributes: dict[str, object] = {
            "codec": self.codec.name,
            "bits": self.codec.bits,
            "renormalize": self.projection.renormalize,
            "unit": self.unit,
            "residual_energy": self.residual_energy,
        }
        return arrays, attributes

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], attributes: Mapping[str, object]) -> Codebook:
        """Make a codebook from what `to_arrays` gave."""
        projection, codec, layout = _stored(arrays, attributes)
        clustering = Clustering.from_arrays(_part("clustering.", arrays))
        energy = float(str(attributes["residual_energy"]))
        return cls(projection, clustering, codec, layout, bool(attributes["unit"]), energy)


@dataclass(frozen=True, slots=True)
class SearchCodebook:
    """The part of a codebook that a search needs."""

    projection: Projection
    probes: ProbeTable
    """Centroids and spreads, for probing."""
    codes: CodeTable
    """Centroids and levels, for decoding."""
    layout: RecordLayout

    @property
    def n_centroids(self) -> int:
        """Number of centroids."""
        return len(self.codes.centroids)

    @property
    def resident_bytes(self) -> int:
        """Memory that it takes."""
        return self.projection.nbytes + self.probes.nbytes + self.codes.nbytes

    def project(self, vectors: NDArray[np.floating], *, where: str = "vectors") -> NDArray[np.float32]:
        """As `Codebook.project`."""
        return _projected(self.projection, vectors, where)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], attributes: Mapping[str, object]) -> SearchCodebook:
        """Make it from what `Codebook.to_arrays` gave; the centroids are never all in float32."""
        projection, codec, layout = _stored(arrays, attributes)
        centroids = np.asarray(arrays["clustering.centroids"], np.float16)
        codes = code_table(
            centroids,
            codec.levels,
            bits=codec.bits,
            centroid_bytes=layout.centroid_bytes,
            unit=bool(attributes["unit"]),
        )
        spreads = np.asarray(arrays["clustering.spreads"], np.float32)
        return cls(projection, in_cells(centroids, spreads), codes, layout)


def train_codebook(
    sample: NDArray[np.float32],
    token_ids: NDArray[np.int32] | None,
    projection: Projection,
    *,
    n_centroids: int,
    bits: int,
    seed: int,
    threads: int,
) -> Codebook:
    """Learn centroids and residual levels from projected vectors, float32 [n, dim], n >= 1."""
    clustering = cluster(sample, token_ids, n_centroids, seed=seed, threads=threads)
    chosen = np.random.default_rng(seed).permutation(len(sample))[:_CODEC_SAMPLE]
    chosen.sort()
    picked = sample[chosen]
    assigned = clustering.assign(picked, None if token_ids is None else token_ids[chosen], threads=threads)
    residuals = picked - clustering.centroids[assigned]
    codec = train_codec(residuals, bits, seed=seed, threads=threads)
    layout = RecordLayout(dim=sample.shape[1], bits=bits, n_centroids=len(clustering.centroids))
    energy = float(np.square(residuals).mean() / max(float(np.square(picked).mean()), np.finfo(np.float32).tiny))
    unit = bits != PLAIN_BITS and _all_unit(picked)
    return Codebook(projection, clustering, codec, layout, unit, energy)


def _stored(
    arrays: Mapping[str, NDArray[np.generic]], attributes: Mapping[str, object]
) -> tuple[Projection, Codec, RecordLayout]:
    """What coding and searching both take from the stored arrays."""
    projection = Projection(np.asarray(arrays["projection"], np.float32), bool(attributes["renormalize"]))
    bits, dim = int(str(attributes["bits"])), int(projection.matrix.shape[1])
    codec = codec_from_arrays(str(attributes["codec"]), bits, dim, _part("codec.", arrays))
    layout = RecordLayout(dim=dim, bits=bits, n_centroids=len(arrays["clustering.centroids"]))
    return projection, codec, layout


def _part(prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _projected(projection: Projection, vectors: NDArray[np.floating], where: str) -> NDArray[np.float32]:
    input_dim = projection.matrix.shape[0]
    if vectors.ndim != 2 or vectors.shape[1] != input_dim:
        raise VectorError(
            f"{where}: expected shape [tokens, {input_dim}], as the index was built with, got {vectors.shape}."
        )
    return projection.apply(vectors)


def _all_unit(vectors: NDArray[np.float32]) -> bool:
    """Whether all have unit length, but for what float16 loses."""
    return bool((np.abs(np.linalg.norm(vectors, axis=1) - 1) < _UNIT_TOLERANCE).all())
