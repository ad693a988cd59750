"""What a search's kernels cost on one core, for each instruction set of this machine and for the reference.

1. Refinement: ns a stored vector, `score_records` on rounds of 64 documents of 80 vectors. `random` rounds lie anywhere in
   --mib of records, and their centroids anywhere in the table; a `warm` round is scored again and again.
   `of peak`: the multiply-adds of dims x query rows, of those that the core can do at the very most (`benchmarks.peak`), in
   16 bits for codes of 8, in 8 bits for smaller ones. (Vectors of 32 bits are multiplied in float32: not shown.)
   `to 84`: the random time over the 84 ns of the prototype in the design (2 bits, 32 query rows).
   All times are the thread's own: what others do on the machine counts only by what they push out of the caches.
2. Probing: ns a centroid, 32 query rows. Gathering: ns a posting, 32 query rows, 64 probes each.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --bits 2 --rows 32 --mib 64 --repetitions 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.peak import multiply_adds_a_second
from colindex.kernels import chosen, reference
from colindex.kernels.tables import PLAIN_BITS, CodeTable, code_table, probe_table
from colindex.records import RecordLayout

DIM = 128
CENTROIDS = 65_536
DOCUMENTS, LENGTH = 64, 80
MULTIPLIED_IN = {1: 8, 2: 8, 4: 8, 8: 16}
"""Bits, by those of a code."""
PROTOTYPE = 84.0


class Body(NamedTuple):
    """Kernels to measure: the chosen ones with an instruction set, or the reference."""

    name: str
    kernels: Any
    multiply_adds: dict[int, float | None]
    """That a core does in a second, at 8 and at 16 bits."""

    def of_peak(self, bits: int, multiply_adds: float) -> str:
        """The share that so many a second, for codes of these bits, are of all that a core can do; empty if unknown."""
        most = self.multiply_adds.get(MULTIPLIED_IN.get(bits, 0))
        return f"{multiply_adds / most:.0%}" if most else ""

    def use(self) -> None:
        """Make them run with their instruction set."""
        if self.kernels is chosen:
            from colindex.kernels.native import _native

            _native.use_instruction_set(self.name)


def bodies() -> list[Body]:
    """All that run here, the reference last."""
    found = []
    if chosen.BODY.startswith("native"):
        from colindex.kernels.native import _native

        found = [
            Body(name, chosen, {bits: multiply_adds_a_second(name, bits) for bits in (8, 16)})
            for name in reversed(_native.instruction_sets())
        ]
    return [*found, Body("reference", reference, {})]


def nanoseconds(call: Callable[[], object], per: int, repetitions: int) -> float:
    """The fastest of some calls, divided by what each works on."""
    best = float("inf")
    for _ in range(repetitions):
        start = time.thread_time()
        call()
        best = min(best, time.thread_time() - start)
    return best / per * 1e9


def unit(rows: int, seed: int) -> NDArray[np.float32]:
    """Random vectors of length 1."""
    values = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def some_records(bits: int, mib: int) -> tuple[NDArray[np.uint8], CodeTable]:
    """Records of random centroids and codes, whole rounds of them, and their table."""
    rng, layout = np.random.default_rng(0), RecordLayout(dim=DIM, bits=bits, n_centroids=CENTROIDS)
    levels = rng.standard_normal(0 if bits == PLAIN_BITS else 256).astype(np.float32)
    table = code_table(
        unit(CENTROIDS, 1), levels, bits=bits, centroid_bytes=layout.centroid_bytes, unit=bits != PLAIN_BITS
    )
    per_round = DOCUMENTS * LENGTH
    count = max(1, mib * 2**20 // layout.record_bytes // per_round) * per_round
    records = np.frombuffer(rng.bytes(count * layout.record_bytes), np.uint8).reshape(count, -1).copy()
    end = layout.centroid_bytes + 2
    records[:, layout.centroid_bytes : end].view("<f2")[:, 0] = 0.6 / DIM**0.5
    if bits == PLAIN_BITS:
        records[:, end:] = unit(count, 5).view(np.uint8)
    return records, table


def refine(body: Body, bits: int, rows: list[int], arguments: argparse.Namespace) -> None:
    """One line for each number of query rows."""
    records, table = some_records(bits, arguments.mib)
    offsets = np.arange(DOCUMENTS + 1, dtype=np.int64) * LENGTH
    per_round = DOCUMENTS * LENGTH
    rounds = records.reshape(-1, per_round, records.shape[1])
    rng = np.random.default_rng(2)
    at_once = 20 if body.kernels is chosen else 1
    for count in rows:
        query = unit(count, 3)

        def score(numbers: NDArray[np.int64], query: NDArray[np.float32] = query) -> None:
            for number in numbers:
                body.kernels.score_records(query, rounds[number], offsets, table)

        body.use()
        anywhere = nanoseconds(
            lambda: score(rng.integers(0, len(rounds), at_once)), per_round * at_once, arguments.repetitions
        )
        warm = nanoseconds(lambda: score(np.zeros(at_once, np.int64)), per_round * at_once, arguments.repetitions)
        peak = body.of_peak(bits, DIM * count / warm * 1e9)
        print(
            f"{body.name:10} {bits:4} {count:5} {anywhere:8.1f} {warm:8.1f} {peak:>7} {anywhere / PROTOTYPE:6.2f}",
            flush=True,
        )


def probe_and_gather(body: Body, repetitions: int) -> None:
    """One line for both."""
    table = probe_table(unit(CENTROIDS, 1), np.full(CENTROIDS, 0.5, np.float32))
    query, rng = unit(32, 3), np.random.default_rng(4)
    body.use()
    probing = nanoseconds(lambda: body.kernels.top_centroids(query, table, 64), CENTROIDS, repetitions)
    n_documents, each = 65_536, 64  # of a segment, postings of a centroid
    postings = np.sort(rng.integers(0, n_documents, (CENTROIDS, each)), axis=1).astype(np.uint16).ravel()
    places = (np.arange(CENTROIDS + 1) * each).astype(np.uint32)
    ids, scores = body.kernels.top_centroids(query, table, 64)

    def gather() -> None:
        body.kernels.gather(ids, scores, postings, places, n_documents, 512)

    gathering = nanoseconds(gather, ids.size * each, repetitions)
    print(f"{body.name:10} {probing:12.2f} {gathering:12.2f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[1, 2, 4, 8, PLAIN_BITS], help="bits a dimension")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 24, 32, 64], help="query tokens")
    parser.add_argument("--mib", type=int, default=512, help="MiB of records that random documents lie in")
    parser.add_argument("--repetitions", type=int, default=10, help="the fastest counts")
    arguments = parser.parse_args()
    found = bodies()
    for body in found:
        for bits, most in body.multiply_adds.items():
            if most:
                print(f"{body.name}: at most {most / 1e9:.0f} multiply-adds of {bits} bits a ns")
    print(f"\nns a stored vector, {DIM} dims, {CENTROIDS:,} centroids, random in {arguments.mib} MiB")
    print(f"{'body':10} {'bits':>4} {'rows':>5} {'random':>8} {'warm':>8} {'of peak':>7} {'to 84':>6}")
    with threadpool_limits(1, user_api="blas"):
        for bits in arguments.bits:
            for body in found:
                refine(body, bits, arguments.rows, arguments)
        print(f"\n{'body':10} {'ns/centroid':>12} {'ns/posting':>12}")
        for body in found:
            probe_and_gather(body, arguments.repetitions)


if __name__ == "__main__":
    main()
