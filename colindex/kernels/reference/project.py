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

__all__ = ["project"]

_ROWS = 4096
"""At a time: bounds the float64 copy at 64 MiB for 1,024 dimensions."""


def project(vectors: NDArray[Any], matrix: NDArray[np.float32], unit: bool) -> NDArray[np.float32]:
    """Rows times a matrix.

    Args:
        vectors: float16 or float32 [n, input_dim], input_dim at most 1,024.
        matrix: float32 [input_dim, dim].
        unit: divide each row of the product by its length; a row of zeros stays one.

    Returns:
        float32 [n, dim].
    """
    columns = on_grid(matrix.T).T
    projected = np.empty((len(vectors), matrix.shape[1]), np.float32)
    for start in range(0, len(vectors), _ROWS):
        rows = on_grid(vectors[start : start + _ROWS]) @ columns
        projected[start : start + _ROWS] = _unit(rows) if unit else rows
    return projected


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows / np.where(lengths > 0, lengths, 1)
