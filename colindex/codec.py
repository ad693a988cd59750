"""The residual codec: a residual becomes a direction in a few bits a dimension and a length.

1. *Scale*: divide a residual by its root mean square, so that one table of levels fits residuals of any length.
2. *Code* the scaled residual with a trellis code of 1, 2, 4 or 8 bits a dimension (`colindex.kernels.reference.codes`):
   at 2 bits its squared error is .077 of the variance, against .1175 for the best scalar levels and .0625 for any code.
   At 8 bits no bit is older than the current ones, and the code is a scalar quantizer of 256 levels.
3. *Keep the length*: the factor, a float16, that gives the decoded residual the length of the residual. (The factor of
   least error, <r, c> / <c, c>, shortens residuals, the worse coded the more, and ranks worse: docs/LOG.md.)

At 32 bits nothing is coded: `PlainCodec` keeps the vectors themselves, and scores are exact. For 14 times the bytes of 2 bits, it
tells what codes lose from what candidates lose.

Decoding is `length * direction`. (Where vectors had unit length, centroid and residual together are brought back to it, not
here but in `colindex.kernels`.)

Training starts from levels for Gaussian residuals, laid out by a linear map of the state's bits that keeps the branches
of each state, and the states that meet, far apart (the rule of Ungerboeck's set partitioning, 1982; the maps were found
by random search). Then it repeats, as Lloyd does: encode a sample, and move each level to the mean of its values.

Random rotation before, and a length of its own for each vector, follow RaBitQ (Gao & Long, SIGMOD 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from colindex.errors import ParameterError, VectorError
from colindex.kernels import chosen as kernels
from colindex.kernels.reference import decode_trellis, trellis_states
from colindex.kernels.reference.residuals import scaled_rows
from colindex.kernels.tables import PLAIN_BITS
from colindex.params import BITS
from colindex.threads import one_blas_thread

__all__ = ["Codec", "PlainCodec", "TrellisCodec", "codec_from_arrays", "train_codec"]

_NAME = "trellis"
_PLAIN = "plain"
_STATES = 256
_CHUNK = 4096  # residuals a thread takes at a time: bounds temporaries
_MAX_LENGTH = float(np.finfo(np.float16).max)

_TRAINING_VALUES = 2**19  # values coded in each round of training: 2,000 for each level
_ROUNDS = 8

# Row i gives bit 7 - i of a level's rank as the parity of (row AND state).
_RANK_MAPS = {
    1: (253, 70, 162, 144, 174, 111, 226, 161),
    2: (165, 110, 20, 81, 242, 162, 212, 48),
    4: (129, 66, 36, 24, 1, 134, 122, 147),
    8: (128, 64, 32, 16, 8, 4, 2, 1),
}


class Codec(Protocol):
    """What the codebook asks of a residual codec."""

    @property
    def name(self) -> str:
        """Kind of codec, as `codec_from_arrays` takes it."""

    @property
    def bits(self) -> int:
        """Bits a dimension: 1, 2, 4, 8 or 32."""

    @property
    def dim(self) -> int:
        """Values in a residual."""

    @property
    def code_bytes(self) -> int:
        """Bytes of a code."""

    @property
    def levels(self) -> NDArray[np.float32]:
        """The value of each state of a code, float32 [256]; none at 32 bits."""

    def encode(
        self, residuals: NDArray[np.float32], *, threads: int = 1
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Codes, uint8 [n, code_bytes], and lengths, float16 [n], of residuals, float32 [n, dim]."""

    def encode_around(
        self,
        vectors: NDArray[np.float32],
        centroids: NDArray[np.float32],
        assigned: NDArray[np.uint32],
        *,
        threads: int = 1,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """As `encode`, of what a record keeps of vectors, float32 [n, dim], beside their centroids."""

    def decode(self, codes: NDArray[np.uint8], lengths: NDArray[np.float16]) -> NDArray[np.float32]:
        """What codes and lengths stand for, float32 [n, dim]."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a codebook stores."""


@dataclass(frozen=True, slots=True)
class TrellisCodec:
    """A trellis code with a window of 8 bits, and a length for each vector."""

    bits: int
    """Bits a dimension: 1, 2, 4 or 8."""
    dim: int
    """Values in a residual."""
    levels: NDArray[np.float32]
    """The value of each state, float32 [256], for residuals of root mean square 1."""

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        if self.levels.shape != (_STATES,) or self.levels.dtype != np.float32 or not np.isfinite(self.levels).all():
            raise ParameterError(
                f"codec levels: expected {_STATES} finite float32, got {self.levels.dtype} {self.levels.shape}."
            )

    @property
    def name(self) -> str:
        """Kind of codec."""
        return _NAME

    @property
    def code_bytes(self) -> int:
        """Bytes of a code."""
        return -(-self.dim * self.bits // 8)

    def encode(
        self, residuals: NDArray[np.float32], *, threads: int = 1
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Code residuals; a residual's code depends on that residual alone.

        Args:
            residuals: float32 [n, dim], finite.
            threads: chunks coded at a time.

        Returns:
            Codes, uint8 [n, code_bytes], and lengths, float16 [n]. A residual of zeros has length 0 and a code of
            zeros; a length beyond float16 is cut to its largest value.

        Raises:
            VectorError: the residuals have another dim.
        """
        residuals = _checked_residuals(residuals, self.dim)
        return self._encode_chunks(lambda rows: residuals[rows], len(residuals), threads)

    def encode_around(
        self,
        vectors: NDArray[np.float32],
        centroids: NDArray[np.float32],
        assigned: NDArray[np.uint32],
        *,
        threads: int = 1,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """As `encode`, of what is left of vectors, float32 [n, dim], without their centroids; some at a time."""

        def residuals(rows: slice) -> NDArray[np.float32]:
            return _checked_residuals(vectors[rows] - centroids[assigned[rows]], self.dim)

        return self._encode_chunks(residuals, len(vectors), threads)

    def _encode_chunks(
        self, residuals: Callable[[slice], NDArray[np.float32]], count: int, threads: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        codes = np.empty((count, self.code_bytes), np.uint8)
        lengths = np.empty(count, np.float16)

        def code(rows: slice) -> None:
            codes[rows], lengths[rows] = self._encode_chunk(residuals(rows))

        with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(code, _chunks(count)):
                pass
        return codes, lengths

    def decode(self, codes: NDArray[np.uint8], lengths: NDArray[np.float16]) -> NDArray[np.float32]:
        """The residuals that codes and lengths stand for.

        Args:
            codes: uint8 [n, code_bytes].
            lengths: float16 [n].

        Returns:
            float32 [n, dim].
        """
        residuals = decode_trellis(codes, self.levels, self.bits, self.dim)
        residuals *= lengths.astype(np.float32)[:, None]
        return residuals

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a codebook stores: `levels`, float32 [256]."""
        return {"levels": self.levels}

    def _encode_chunk(self, residuals: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        codes, lengths = kernels.encode_residuals(residuals, self.levels, self.bits)
        stored = np.clip(lengths, 0, _MAX_LENGTH).astype(np.float16)
        codes[stored == 0] = 0
        return codes, stored


@dataclass(frozen=True, slots=True)
class PlainCodec:
    """No code: the vectors themselves, whatever their centroids."""

    dim: int
    """Values in a vector."""

    @property
    def name(self) -> str:
        """Kind of codec."""
        return _PLAIN

    @property
    def bits(self) -> int:
        """Bits a dimension."""
        return PLAIN_BITS

    @property
    def code_bytes(self) -> int:
        """Bytes of a code."""
        return 4 * self.dim

    @property
    def levels(self) -> NDArray[np.float32]:
        """None: float32 [0]."""
        return np.empty(0, np.float32)

    def encode(
        self, residuals: NDArray[np.float32], *, threads: int = 1
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """The bytes of vectors, float32 [n, dim], little-endian; every length is 1.

        Raises:
            VectorError: they have another dim.
        """
        rows = _checked_residuals(residuals, self.dim)
        return rows.astype("<f4", copy=False).view(np.uint8), np.ones(len(rows), np.float16)

    def encode_around(
        self,
        vectors: NDArray[np.float32],
        centroids: NDArray[np.float32],
        assigned: NDArray[np.uint32],
        *,
        threads: int = 1,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """As `encode`: all of the vectors, float32 [n, dim], whatever their centroids."""
        return self.encode(vectors)

    def decode(self, codes: NDArray[np.uint8], lengths: NDArray[np.float16]) -> NDArray[np.float32]:
        """The vectors, float32 [n, dim]."""
        return np.ascontiguousarray(codes).view("<f4").astype(np.float32)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a codebook stores: nothing."""
        return {}


def train_codec(residuals: NDArray[np.float32], bits: int, *, seed: int, threads: int) -> Codec:
    """Learn the levels of a codec from a sample of residuals.

    Args:
        residuals: float32 [n, dim], n >= 1, finite, in the rotated space.
        bits: bits a dimension, 1, 2, 4, 8 or 32.
        seed: seed of the choice among the residuals.
        threads: chunks coded at a time.

    Raises:
        ParameterError: bits is none of these.
        VectorError: there is no residual.
    """
    _check_bits(bits, BITS)
    if residuals.ndim != 2 or not residuals.size:
        raise VectorError(f"codec sample: expected float32 [n, dim] with n >= 1, got shape {residuals.shape}.")
    dim = int(residuals.shape[1])
    if bits == PLAIN_BITS:
        return PlainCodec(dim)
    chosen = np.random.default_rng(seed).permutation(len(residuals))[: max(_TRAINING_VALUES // dim, 1)]
    scaled, rms = scaled_rows(_checked_residuals(residuals, dim)[np.sort(chosen)])
    scaled = scaled[rms > 0]
    levels = _gaussian_levels(bits)
    for _ in range(_ROUNDS if len(scaled) else 0):
        levels = _refined(levels, scaled, bits, threads)
    return TrellisCodec(bits, dim, levels)


def codec_from_arrays(name: str, bits: int, dim: int, arrays: Mapping[str, NDArray[np.generic]]) -> Codec:
    """The codec of which a codebook stored `arrays()`.

    Raises:
        ParameterError: there is no such codec, or its arrays are not those of the codec.
    """
    if (name, bits) == (_PLAIN, PLAIN_BITS):
        return PlainCodec(dim)
    if name != _NAME:
        raise ParameterError(
            f"codec: expected {_NAME!r}, or {_PLAIN!r} at {PLAIN_BITS} bits, got {name!r} at {bits}; the index was written by "
            "another version."
        )
    if "levels" not in arrays:
        raise ParameterError(f"codec {name!r}: expected an array 'levels', got {sorted(arrays)}.")
    return TrellisCodec(bits, dim, np.ascontiguousarray(arrays["levels"], np.float32))


def _check_bits(bits: int, known: Collection[int] = _RANK_MAPS.keys()) -> None:
    if bits not in known:
        raise ParameterError(f"bits: expected one of {', '.join(map(str, known))}, got {bits!r}.")


def _checked_residuals(residuals: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    if residuals.ndim != 2 or residuals.shape[1] != dim:
        raise VectorError(f"residuals: expected shape [n, {dim}], got {residuals.shape}.")
    return np.ascontiguousarray(residuals, np.float32)  # rows in one piece: sums over a row never depend on the batch


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def _gaussian_levels(bits: int) -> NDArray[np.float32]:
    """Levels to start from, float32 [256]: quantiles, in the order of the rank map of `bits`."""
    states = np.arange(_STATES)
    ranks = np.zeros(_STATES, np.int64)
    for row in _RANK_MAPS[bits]:
        ranks = ranks << 1 | np.bitwise_count(states & row) & 1
    # A scalar quantizer's best levels lie as the quantiles of a Gaussian of variance 3 (Panter & Dite, 1951).
    spread = NormalDist(0, 3**0.5 if bits == 8 else 1)
    quantiles = np.array([spread.inv_cdf((rank + 0.5) / _STATES) for rank in range(_STATES)], np.float32)
    return quantiles[ranks]


def _refined(levels: NDArray[np.float32], scaled: NDArray[np.float32], bits: int, threads: int) -> NDArray[np.float32]:
    """Levels moved to the means of the values that their states stand for; a state that stands for none stays."""
    dim = scaled.shape[1]

    def sums(rows: slice) -> NDArray[np.float64]:
        states = trellis_states(kernels.encode_trellis(scaled[rows], levels, bits), bits, dim).ravel()
        count = np.bincount(states, minlength=_STATES)
        return np.stack([count, np.bincount(states, scaled[rows].ravel(), minlength=_STATES)])

    with ThreadPoolExecutor(threads) as pool:
        count, total = sum(
            pool.map(sums, _chunks(len(scaled))), np.zeros((2, _STATES))
        )  # in order, whatever the threads
    return np.where(count > 0, total / np.maximum(count, 1), levels).astype(np.float32)
