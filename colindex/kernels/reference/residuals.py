"""A residual becomes a code and a length.

1. *Scale*: divide it by its root mean square, so that one table of levels fits residuals of any length.
2. *Code* it (`encode_trellis`).
3. *Measure* what the code stands for: the length that is kept gives the decoded residual the length of the residual.

Sums are those of NumPy over a row in one piece: eight sums side by side, runs of more than 128 values halved. Any other body
adds in the same order, so that lengths agree to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.reference.codes import decode_trellis, encode_trellis

__all__ = ["encode_residuals", "scaled_rows"]


def encode_residuals(
    residuals: NDArray[np.float32], levels: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Code residuals of any length.

    Args:
        residuals: float32 [n, dim], finite.
        levels: float32 [256], the value of each state, for residuals of root mean square 1.
        bits: bits a dimension, 1, 2, 4 or 8.

    Returns:
        Codes, uint8 [n, ceil(dim * bits / 8)], and lengths, float32 [n]: `length * decode_trellis(code)` has the length of
        the residual. A residual of zeros has length 0; one beyond float32 has an infinite length.
    """
    scaled, rms = scaled_rows(residuals)
    codes = encode_trellis(scaled, levels, bits)
    dim = residuals.shape[1]
    energy = np.square(decode_trellis(codes, levels, bits, dim)).sum(axis=1)
    factor = np.sqrt(dim / np.where(energy > 0, energy, np.float32(np.inf)))
    with np.errstate(over="ignore", invalid="ignore"):
        return codes, rms * factor


def scaled_rows(residuals: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Residuals of root mean square 1, and what they were divided by, float32 [n]; zeros stay zeros."""
    residuals = np.ascontiguousarray(residuals, np.float32)  # else a row would be added in another order
    peak = np.abs(residuals).max(axis=1, initial=0)  # first, so that no square leaves the range of float32
    unit = residuals / np.where(peak > 0, peak, 1)[:, None]
    rms = np.sqrt(np.square(unit).mean(axis=1, dtype=np.float32))
    scaled = np.asarray(unit / np.where(rms > 0, rms, 1)[:, None], np.float32)
    with np.errstate(over="ignore"):
        return scaled, rms * peak
