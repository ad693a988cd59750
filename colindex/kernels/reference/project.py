"""Rows times a matrix, exact before the last rounding: a row's result depends on that row alone, to the last bit.

1. *Multiply* rows and columns on their grids (`grid`) in float64.
2. *Divide* each product row by its length, where that is asked.
3. *Round* to float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.reference.grid import on_grid

__all__ = ["SIDE_BY_SIDE", "grid_columns", "project"]

SIDE_BY_SIDE = 32
"""Columns that the widest native body takes together."""

_ROWS = 4096
"""At a time: bounds the float64 copy at 64 MiB for 1,024 dimensions."""


def grid_columns(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """A matrix as `project` multiplies with it, made once for many calls.

    Args:
        matrix: float32 [input_dim, dim].

    Returns:
        float64 [tiles, input_dim, 32], the columns of the matrix, each on its grid, 32 a tile; zeros past the last.
    """
    input_dim, dim = matrix.shape
    columns = np.zeros((input_dim, -(-dim // SIDE_BY_SIDE), SIDE_BY_SIDE))
    columns.reshape(input_dim, -1)[:, :dim] = on_grid(matrix.T).T
    return np.ascontiguousarray(columns.transpose(1, 0, 2))


def project(vectors: NDArray[Any], columns: NDArray[np.float64], dim: int, unit: bool) -> NDArray[np.float32]:
    """Rows times a matrix.

    Args:
        vectors: float16 or float32 [n, input_dim], input_dim at most 1,024.
        columns: the matrix, as `grid_columns` gives it.
        dim: columns of the matrix.
        unit: divide each row of the product by its length; a row of zeros stays one.

    Returns:
        float32 [n, dim].
    """
    projected = np.empty((len(vectors), dim), np.float32)
    in_rows = columns.transpose(1, 0, 2).reshape(columns.shape[1], -1)[:, :dim]
    for start in range(0, len(vectors), _ROWS):
        rows = on_grid(vectors[start : start + _ROWS]) @ in_rows
        projected[start : start + _ROWS] = _unit(rows) if unit else rows
    return projected


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows / np.where(lengths > 0, lengths, 1)
