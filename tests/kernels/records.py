"""Records to decode and score: tables, records with chosen lengths, and what they stand for by definition."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.tables import CodeTable, code_table

__all__ = [
    "by_definition",
    "exact_scores",
    "gaussian",
    "margins",
    "offsets_of",
    "pack",
    "random_records",
    "some_table",
    "states",
    "unit_rows",
]

_LONGEST_LENGTH = 65504.0  # of float16


def gaussian(rows: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def unit_rows(rows: int, dim: int, seed: int = 99) -> NDArray[np.float32]:
    found = gaussian(rows, dim, seed)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def some_table(
    dim: int, bits: int, *, centroids: int = 70, centroid_bytes: int = 2, unit: bool = False, scale: float = 1.0
) -> CodeTable:
    """Gaussian centroids of about length `scale`, and levels as a codec learns them: none at 32 bits, nor unit length."""
    rows = gaussian(centroids, dim, seed=dim) * np.float32(scale / dim**0.5)
    levels = gaussian(1, 256 if bits <= 8 else 0, seed=bits)[0]
    return code_table(rows, levels, bits=bits, centroid_bytes=centroid_bytes, unit=unit and bits <= 8)


def pack(table: CodeTable, ids: NDArray[Any], lengths: NDArray[Any], codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Records as `colindex.records` lays them out, written here once more."""
    parts = [ids.astype(f"<u{table.centroid_bytes}")[:, None].view(np.uint8)]
    parts += [lengths.astype("<f2")[:, None].view(np.uint8), codes]
    return np.concatenate(parts, axis=1)


def random_records(table: CodeTable, count: int, *, residual: float = 0.5, seed: int = 0) -> NDArray[np.uint8]:
    """Records of any centroids and codes, with residuals of up to about this length."""
    rng = np.random.default_rng(seed)
    dim = table.centroids.shape[1]
    codes = rng.integers(0, 256, (count, -(-dim * table.bits // 8)), dtype=np.uint8)
    lengths = np.clip(rng.random(count) * residual / dim**0.5, 0, _LONGEST_LENGTH)
    ids = rng.integers(0, len(table.centroids), count)
    if table.bits == 32:
        vectors = table.centroids[ids] + lengths[:, None] * gaussian(count, dim, seed)
        return pack(table, ids, np.ones(count), vectors.astype("<f4").view(np.uint8))
    return pack(table, ids, lengths, codes)


def offsets_of(lengths: list[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *lengths], dtype=np.int64)


def states(code: NDArray[np.uint8], bits: int, dim: int) -> list[int]:
    """The last 8 bits of the stream at each dimension, read from a string of bits."""
    stream = "0" * 8 + "".join(f"{byte:08b}" for byte in code.tolist())
    return [int(stream[end - 8 : end], 2) for end in range(8 + bits, 8 + bits * dim + 1, bits)]


def by_definition(records: NDArray[np.uint8], table: CodeTable) -> NDArray[np.float64]:
    """The vectors of records, one by one in float64."""
    dim, after_id = table.centroids.shape[1], table.centroid_bytes
    vectors = np.empty((len(records), dim))
    for row, record in enumerate(records):
        centroid = int.from_bytes(record[:after_id].tobytes(), "little")
        length = float(record[after_id : after_id + 2].view("<f2")[0])
        if table.bits == 32:
            vectors[row] = record[after_id + 2 :].view("<f4")
            continue
        direction = table.levels[states(record[after_id + 2 :], table.bits, dim)].astype(np.float64)
        vectors[row] = table.centroids[centroid] * table.steps[centroid].astype(np.float64) + length * direction
        if table.unit and vectors[row].any():
            vectors[row] /= np.linalg.norm(vectors[row])
    return vectors


def exact_scores(
    query: NDArray[np.float32], vectors: NDArray[np.float64], offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    products = query.astype(np.float64) @ vectors.T
    return np.array([products[:, a:b].max(axis=1).sum() if b > a else -np.inf for a, b in pairwise(offsets)])


def margins(
    query: NDArray[np.float32], records: NDArray[np.uint8], offsets: NDArray[np.int64], table: CodeTable
) -> NDArray[np.float64]:
    """What rounding may cost each document at the very most.

    Values of query tokens and of vectors are rounded to whole steps. Each costs half a step, or a little more, in each of `dim`
    values; bringing a vector to length 1 stretches its error as it stretches the vector.
    """
    root, in_bytes = table.centroids.shape[1] ** 0.5, table.centroids.dtype == np.int8
    raw = by_definition(records, table._replace(unit=False))
    sizes = np.linalg.norm(raw, axis=1)
    if table.bits == 32:
        return _float_margins(query, sizes, offsets)
    errors = _byte_errors(records, table) if in_bytes else _word_errors(records, sizes, table)
    if table.unit:
        errors = np.minimum(2 * errors / np.where(sizes > 0, sizes, np.inf), 2)
        sizes = np.ones(len(sizes))
    asked = np.linalg.norm(query.astype(np.float64), axis=1)
    steps = np.abs(query).max(axis=1, initial=0) / 127 if in_bytes else asked / 32767
    costs = asked.sum() * root * errors + 0.6 * steps.sum() * root * (sizes + root * errors)
    return np.array([costs[a:b].max(initial=0) for a, b in pairwise(offsets)])


def _float_margins(
    query: NDArray[np.float32], sizes: NDArray[np.float64], offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of sums in float32: a rounding for each product and each addition (Higham, 2002, section 3.1), and of what is smallest."""
    tokens, dim = query.shape
    asked = np.linalg.norm(query.astype(np.float64), axis=1).sum()
    costs = 2 * dim * 2**-24 * asked * sizes + 2 * tokens * dim * 2**-149
    return np.array([costs[a:b].max(initial=0) for a, b in pairwise(offsets)])


def _word_errors(records: NDArray[np.uint8], sizes: NDArray[np.float64], table: CodeTable) -> NDArray[np.float64]:
    """Of a vector's values in 16 bits: a step of the centroids, and a 4,095th of the largest level.

    Or, where its residual is long, a 32,767th of its length.
    """
    lengths = _lengths(records, table)
    return np.asarray(
        0.6 * table.steps[0] + 0.6 * lengths * float(np.abs(table.levels).max()) / 4095 + 0.6 * sizes / 32767
    )


def _byte_errors(records: NDArray[np.uint8], table: CodeTable) -> NDArray[np.float64]:
    """Of a vector's values in 8 bits: half a step of the vector each for the sum, for the weights, and for the levels."""
    ids = records[:, : table.centroid_bytes].copy().view(f"<u{table.centroid_bytes}")[:, 0]
    return np.asarray(1.7 * (table.steps[ids] + _lengths(records, table) * float(np.abs(table.levels).max()) / 127))


def _lengths(records: NDArray[np.uint8], table: CodeTable) -> NDArray[np.float64]:
    start = table.centroid_bytes
    return np.asarray(np.abs(records[:, start : start + 2].copy().view("<f2")[:, 0].astype(np.float64)))
