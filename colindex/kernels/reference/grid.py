"""Dot products that are exact, so that no result depends on how they are added up.

A float32 matrix product rounds differently at different rows of the same call (measured with OpenBLAS 0.3.31: a row's
last bit changes with its position modulo 4), so the same vector could get another centroid in another batch.

1. Put each row on a grid of 25 bits below its own norm: an error of at most 2**-26 of the norm, float32's own.
2. Multiply in float64. Products of two grid rows are whole multiples of one unit, and by Cauchy-Schwarz no partial sum
   exceeds 2**50 units: every partial sum is exact, in any order, with or without fused multiply-add.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["on_grid"]

_BITS = 25


def on_grid(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Round each row to the grid on which dot products in float64 are exact.

    Args:
        vectors: float16 or float32 [n, dim]; dim at most 1,024.

    Returns:
        float64 [n, dim]; row i depends on `vectors[i]` alone. `on_grid(a) @ on_grid(b).T` is exact.
    """
    wide: NDArray[np.float64] = vectors.astype(np.float64, order="C")  # rows in one piece are added in one order
    norms = np.sqrt((wide * wide).sum(axis=1))
    exponents = np.frexp(norms)[1][:, None]  # norm < 2**exponent
    # powers of two, so that multiplying is exact; ldexp on every value would take five times longer
    wide *= np.ldexp(1.0, _BITS - exponents)
    np.rint(wide, out=wide)
    wide *= np.ldexp(1.0, exponents - _BITS)
    return wide
