"""Which of some centres is nearest to each row of whole numbers?

Nearest is by Euclidean distance: the highest 2 * row * centre - centre * centre. Every product and sum is a whole number that
float32 holds, so the order of additions does not matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest_cells"]

_ROWS = 1024


def nearest_cells(rows: NDArray[np.int8], centres: NDArray[np.int8]) -> NDArray[np.int32]:
    """The nearest centre of each row.

    Args:
        rows: int8 [n, dim], dim at most 1,024, none of them -128.
        centres: int8 [m, dim], m at least 1, none of them -128.

    Returns:
        int32 [n], the lowest number of equally near ones.
    """
    columns = centres.astype(np.float32).T
    squares = np.square(centres.astype(np.int32)).sum(axis=1, dtype=np.int32)
    nearest = np.empty(len(rows), np.int32)
    for start in range(0, len(rows), _ROWS):
        products = rows[start : start + _ROWS].astype(np.float32) @ columns
        nearest[start : start + _ROWS] = (2 * products.astype(np.int32) - squares).argmax(axis=1)
    return nearest
