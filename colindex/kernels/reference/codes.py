"""Which bits stand for a direction, and which direction do bits stand for?

A trellis code with a sliding window ("bitshift trellis": QTIP, Tseng et al., NeurIPS 2024; trellis-coded
quantization: Marcellin & Fischer, 1990). Each dimension adds `bits` bits to a stream; the *state* of a dimension is the
last 8 bits of the stream up to and including its own, and its value is `levels[state]`. A vector spends `bits` bits a
dimension, yet chooses among 256 levels in each: the encoder searches the whole vector for the sequence whose states fit
best.

The stream is packed big-endian: the first dimension takes the high bits of the first byte; before the stream lie
zeros; the last byte ends in zeros. So a state is any 8 consecutive bits of the code, and bits that fill a byte are
their own state.

Encoding is the Viterbi algorithm over 256 states, for `_BLOCK` vectors side by side:

1. *Quantize* values and levels to whole numbers, so small that every cost below is a whole number under 2**24, which
   float32 holds exactly: the codes depend neither on the order of additions, nor on the batch, nor on the machine.
2. *Step*, dimension by dimension: of the 2**bits states that differ only in their oldest bits, the cheapest survives
   (its oldest bits are noted); the survivor goes on to the 2**bits states that replace those bits by new ones, at the
   cost (value - level)**2 - value**2.
   Costs lie in *byte order*: the new bits overwrite, in place, the oldest ones, as they do in the byte of the stream
   that is being filled; no cost ever moves, and a state is its byte, rotated.
3. *Trace back* from the cheapest final state: the byte at each byte's last dimension is a byte of the code.

Decoding is a window and a table: shift the 16 bits around each dimension, keep 8, look up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.tables import PLAIN_BITS, CodeTable

__all__ = ["decode_records", "decode_trellis", "encode_trellis", "level_grid", "trellis_states"]

_STATES = 256
_BLOCK = (
    2048  # vectors side by side: NumPy calls long enough (20 us) that two threads do not wait for each other's lock
)
_ROWS = 1024  # records decoded at a time: temporaries stay in the second-level cache
_HEADROOM = 1.25  # values are clipped this far outside the outermost level: farther changes no choice of note
_LARGEST_WHOLE = 2**24


def encode_trellis(scaled: NDArray[np.float32], levels: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """Find the code whose levels lie nearest to each vector, in squared distance.

    Args:
        scaled: float32 [n, dim], finite, on the scale of the levels.
        levels: float32 [256], the value of each state.
        bits: bits a dimension, 1, 2, 4 or 8.

    Returns:
        uint8 [n, ceil(dim * bits / 8)]. A vector's code depends on that vector alone.
    """
    code_bytes = -(-scaled.shape[1] * bits // 8)
    codes = np.empty((len(scaled), code_bytes), np.uint8)
    step, reach = level_grid(levels, bits)
    whole = np.rint(levels.astype(np.float64) * step).astype(np.float32)
    branches = [_branch_terms(whole, phase + bits) for phase in range(0, 8, bits)]
    for start in range(0, len(scaled), _BLOCK):
        block = np.clip(scaled[start : start + _BLOCK].T, -reach, reach)  # [dim, block]
        survivors, costs = _forward(np.rint(block * step).astype(np.float32), branches, bits)
        codes[start : start + _BLOCK] = _trace_back(survivors, costs.argmin(axis=0), bits, code_bytes)
    return codes


def trellis_states(codes: NDArray[np.uint8], bits: int, dim: int) -> NDArray[np.uint8]:
    """The state of each dimension, uint8 [n, dim], from codes, uint8 [n, ceil(dim * bits / 8)]."""
    count, code_bytes = codes.shape
    words = codes.astype(np.uint16)
    words[:, 1:] |= codes[:, :-1].astype(np.uint16) << 8
    states = np.empty((count, code_bytes, 8 // bits), np.uint8)
    for place in range(8 // bits):
        np.right_shift(words, 8 - bits * (place + 1), out=states[:, :, place], casting="unsafe")  # keeps the low 8 bits
    return states.reshape(count, code_bytes * (8 // bits))[:, :dim]


def decode_trellis(codes: NDArray[np.uint8], levels: NDArray[np.float32], bits: int, dim: int) -> NDArray[np.float32]:
    """The directions that codes stand for.

    Args:
        codes: uint8 [n, ceil(dim * bits / 8)].
        levels: float32 [256].
        bits: bits a dimension, 1, 2, 4 or 8.
        dim: values in a vector.

    Returns:
        float32 [n, dim].
    """
    return levels.take(
        trellis_states(codes, bits, dim), mode="wrap"
    )  # no state lies outside: wrapping only skips checks


def decode_records(records: NDArray[np.uint8], table: CodeTable) -> NDArray[np.float32]:
    """The vectors that records stand for: centroid + length * direction; at 32 bits the vectors that they hold.

    Args:
        records: uint8 [n, record bytes]: centroid id, float16 length, code (`colindex.records`).
        table: what the records were coded with.

    Returns:
        float32 [n, dim]. A record's vector does not depend on the others. In a record that no encoder wrote, an infinite
        length is the largest one of float16, and NaN is 0.

    Raises:
        IndexError: a record names a centroid that the table does not have.
    """
    dim, id_bytes = table.centroids.shape[1], table.centroid_bytes
    vectors = np.empty((len(records), dim), np.float32)
    for start in range(0, len(records), _ROWS):
        some = records[start : start + _ROWS]
        ids = some[:, :id_bytes].view(f"<u{id_bytes}")[:, 0]
        part = vectors[start : start + _ROWS]
        if table.bits == PLAIN_BITS:
            part[:] = _held(some, ids, table)
            continue
        lengths = some[:, id_bytes : id_bytes + 2].view("<f2")
        directions = decode_trellis(some[:, id_bytes + 2 :], table.levels, table.bits, dim)
        np.multiply(directions, np.nan_to_num(lengths).astype(np.float32), out=part)
        part += table.centroids[ids] * table.steps[ids, None]
        if table.unit:
            norms = np.sqrt(np.einsum("ij,ij->i", part, part))[:, None]
            part /= np.where(norms > 0, norms, 1)  # a zero vector stays zero
    return vectors


def _held(records: NDArray[np.uint8], ids: NDArray[Any], table: CodeTable) -> NDArray[np.float32]:
    """The vectors that records of 32 bits hold."""
    if len(ids) and ids.max() >= len(table.centroids):
        raise IndexError("a record names a centroid that does not exist")
    return np.ascontiguousarray(records[:, table.centroid_bytes + 2 :]).view("<f4")


def level_grid(levels: NDArray[np.float32], bits: int) -> tuple[float, float]:
    """Whole-number steps in one unit of the levels, and how far from zero values may lie.

    Levels come to 910 steps at most, values to 1,138.
    Costs of two states differ by at most what a whole byte of branches can differ (any state is reached from any other
    in 8 / bits dimensions), and they are brought back to zero once a byte: four such spans bound every cost.
    """
    outermost = float(np.abs(levels).max())
    if outermost == 0:  # equal levels: any step will do
        return 1.0, 0.0
    span = (8 // bits) * (1 + _HEADROOM) ** 2  # of the costs of a byte, in squares of the outermost level
    return float(np.floor(np.sqrt(_LARGEST_WHOLE / 4 / span))) / outermost, outermost * _HEADROOM


def _branch_terms(whole: NDArray[np.float32], written: int) -> NDArray[np.float32]:
    """Rows (-2 L, L**2), float32 [256, 2], for each byte of which `written` bits are new."""
    byte = np.arange(_STATES)
    state = (byte << written | byte >> (8 - written)) % _STATES if written < 8 else byte
    level = whole[state]
    return np.stack([-2 * level, level * level], axis=1)


def _forward(
    values: NDArray[np.float32], branches: list[NDArray[np.float32]], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Walk the dimensions of values, float32 [dim, block].

    Returns:
        The survivors of each dimension, uint8 [dim, 256 >> bits, block], and the costs at the end, [256, block].
    """
    dim, block = values.shape
    costs = np.full((_STATES, block), np.inf, np.float32)
    costs[0] = 0  # zeros lie before the stream
    survivors = np.empty((dim, _STATES >> bits, block), np.uint8)
    terms = np.ones((2, block), np.float32)
    branch, rounds = np.empty_like(costs), _rounds(bits, block)
    for position in range(dim):
        phase = position * bits % 8
        shape = (1 << phase, 1 << bits, (1 << (8 - phase - bits)) * block)  # bits written, bits to replace, the rest
        cheapest = _tournament(costs.reshape(shape), rounds, survivors[position].reshape(shape[0], shape[2]))
        if phase == 0:
            cheapest.reshape(-1, block)[:] -= cheapest.reshape(-1, block).min(axis=0)
        terms[0] = values[position]
        np.matmul(branches[phase // bits], terms, out=branch)  # whole numbers: exact in any order
        np.add(branch.reshape(shape), cheapest[:, None], out=costs.reshape(shape))
    return survivors, costs


def _rounds(bits: int, block: int) -> list[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Room for the minima and the winners of each round of a tournament."""
    sizes = [(_STATES >> (turn + 1)) * block for turn in range(bits)]
    return [(np.empty(size, np.float32), np.empty(size, np.uint8)) for size in sizes]


def _tournament(
    costs: NDArray[np.float32], rounds: list[tuple[NDArray[np.float32], NDArray[np.uint8]]], places: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The minimum over axis 1 of costs [a, 2**bits, c]; where it lies goes to `places` [a, c].

    Round by round the lower half plays the upper half, and wins a tie; a winner carries along which half it came from.
    """
    count, half, width = costs.shape
    carried = rounds[0][1].reshape(count, -1, width)
    for minima, winners in rounds:
        half //= 2
        shape = (count, half, width)
        lower, upper = costs[:, :half], costs[:, half:]
        won = winners.reshape(shape)
        np.less(upper, lower, out=won.view(np.bool_))
        costs = np.minimum(lower, upper, out=minima.reshape(shape))
        if carried.shape[1] > half:
            kept, other = carried[:, :half], carried[:, half:]
            other ^= kept
            other *= won
            kept ^= other  # the winner's
            kept += kept  # a shift by one, which NumPy adds faster than it shifts
            kept |= won
            carried = kept
    places[:] = carried[:, 0]
    return costs[:, 0]


def _trace_back(survivors: NDArray[np.uint8], last: NDArray[np.intp], bits: int, code_bytes: int) -> NDArray[np.uint8]:
    """Follow survivors [dim, 256 >> bits, block] from the last byte, intp [block], to codes [block, code_bytes]."""
    dim, _, block = survivors.shape
    column = np.arange(block)
    codes = np.empty((block, code_bytes), np.uint8)
    byte = last
    for position in range(dim - 1, -1, -1):
        phase = position * bits % 8
        rest = 8 - phase - bits  # bits of the byte that are older than those of this dimension
        if rest == 0 or position == dim - 1:
            codes[:, position * bits // 8] = byte >> rest << rest  # an unfilled last byte ends in zeros
        above, below = byte >> (8 - phase), byte & ((1 << rest) - 1)
        replaced = survivors[position].ravel().take((above << rest | below) * block + column).astype(np.intp)
        byte = (above << bits | replaced) << rest | below
    return codes
