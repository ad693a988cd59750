"""The linear map that every vector, stored or asked, goes through once.

1. PCA, where fewer dimensions are asked for: the top eigenvectors of the uncentred second moment of a sample
   (uncentred, because MaxSim is a dot product and a shifted origin would change it).
2. A random rotation (QR of a Gaussian matrix, signs fixed so that it is uniform): it spreads the variance evenly over
   the dimensions, so that one table of scalar levels fits them all, and leaves every dot product as it is.
3. Where PCA shortened vectors of unit length, each row is brought back to unit length.

The rotation before scalar quantization is that of RaBitQ (Gao & Long, SIGMOD 2024).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from colindex.errors import VectorError
from colindex.kernels import chosen as kernels

__all__ = ["Projection", "learn_projection"]

_BLOCK = 4096
"""Rows at a time: what is made of them is made in memory that was used before."""
_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class Projection:
    """A matrix, and whether rows are brought to unit length after it."""

    matrix: NDArray[np.float32]
    """float32 [input_dim, dim], orthonormal columns."""
    renormalize: bool
    """Divide each projected row by its length."""
    columns: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    """The matrix as the kernel multiplies with it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", kernels.grid_columns(self.matrix))

    @property
    def input_dim(self) -> int:
        """Values in a vector before the projection."""
        return int(self.matrix.shape[0])

    @property
    def dim(self) -> int:
        """Values in a vector after the projection."""
        return int(self.matrix.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.matrix.nbytes + self.columns.nbytes

    def apply(self, vectors: NDArray[Any], into: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Project rows; the result of a row depends on that row alone, to the last bit.

        Args:
            vectors: float16 or float32 [n, input_dim].
            into: float32 [n, dim] to write to, instead of a new array.

        Returns:
            float32 [n, dim].

        Raises:
            VectorError: the vectors have another dim.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.input_dim:
            raise VectorError(
                f"vectors: expected shape [tokens, {self.input_dim}], got {vectors.shape}; "
                "use the encoder that the index was built with."
            )
        if into is None and len(vectors) <= _BLOCK:
            return kernels.project(vectors, self.columns, self.dim, self.renormalize)
        projected = np.empty((len(vectors), self.dim), np.float32) if into is None else into
        for start in range(0, len(vectors), _BLOCK):
            part = slice(start, start + _BLOCK)
            projected[part] = kernels.project(vectors[part], self.columns, self.dim, self.renormalize)
        return projected


def learn_projection(sample: NDArray[Any], dim: int | None, seed: int) -> Projection:
    """Learn the projection of an index from a sample of its vectors.

    Args:
        sample: float16 or float32 [n, input_dim].
        dim: dimensions to keep; None, or all of them, keeps every dot product as it is.
        seed: seed of the rotation.

    Raises:
        VectorError: `dim` exceeds the dimensions of the sample.
    """
    input_dim = int(sample.shape[1])
    if dim is not None and dim > input_dim:
        raise VectorError(f"dim: expected at most {input_dim}, the vectors' own, got {dim}; leave dim out to keep all.")
    if dim is None or dim == input_dim:
        return Projection(_random_rotation(input_dim, seed).astype(np.float32), renormalize=False)
    matrix = _principal_axes(sample, dim) @ _random_rotation(dim, seed)
    return Projection(np.ascontiguousarray(matrix, np.float32), renormalize=_all_unit(sample))


def _principal_axes(sample: NDArray[Any], dim: int) -> NDArray[np.float64]:
    """The `dim` eigenvectors of the second moment with the largest eigenvalues, float64 [input_dim, dim]."""
    moment = np.zeros((sample.shape[1], sample.shape[1]))
    for start in range(0, len(sample), _BLOCK):
        rows = sample[start : start + _BLOCK].astype(np.float32)
        moment += rows.T @ rows
    _, axes = np.linalg.eigh(moment)
    return np.asarray(axes[:, ::-1][:, :dim])


def _random_rotation(dim: int, seed: int) -> NDArray[np.float64]:
    """A uniformly random orthogonal matrix, float64 [dim, dim]."""
    with threadpool_limits(1, user_api="blas"):  # a small matrix: threads would only wait for each other
        orthogonal, triangular = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return np.asarray(orthogonal * np.sign(np.diag(triangular)))


def _all_unit(sample: NDArray[Any]) -> bool:
    """Whether every vector of the sample has unit length, as cosine models give them."""
    lengths = np.concatenate(
        [
            np.linalg.norm(sample[start : start + _BLOCK].astype(np.float32), axis=1)
            for start in range(0, max(len(sample), 1), _BLOCK)
        ]
    )
    return bool(len(lengths) and (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all())
