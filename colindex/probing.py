"""Probing segments of different ages: each among the centroids that its documents can be under.

An index that grows appends centroids (`colindex.expansion`); a segment knows those that there were when it was written. The new
ones are fine and score high: of 64 probes among all of them hardly any would fall on the coarse ones under which old documents
are, and these would be given up unseen. (Built on a tenth and grown, the first 128 candidates held .93 of the exact top 10's old
documents and .99 of its new ones; docs/LOG.md.)

1. *Ages*: segments that know about as many centroids are of one age. The first is that of few centroids; after it a new one
   begins with every third centroid more. So few probes are lost on an age, and ages are few however often an index grew.
   Compaction does not merge across them (`colindex.compaction_plan`).
2. *Probe* once for each age, among the centroids that the youngest of it knows: the first so many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from colindex.kernels import chosen as kernels
from colindex.kernels.tables import ProbeTable

__all__ = ["Probes", "age", "known_by_age", "probes"]

_FEW = 4096
"""Centroids of the first age, at most: those of some 260,000 vectors. A smaller index is not kept in pieces."""
_MORE = 4 / 3
"""Centroids at the end of an age over those at the end of the one before."""

Probes = tuple[NDArray[np.int32], NDArray[np.float32]]
"""The probed centroids of each query token, and their scores, as `top_centroids` gives them."""


def age(known: int) -> int:
    """The age of a segment that knows so many centroids.

    >>> [age(known) for known in (1, 4096, 4097, 5461, 5462, 65_536)]
    [0, 0, 1, 1, 2, 10]
    """
    return max(0, math.ceil(math.log(known / _FEW, _MORE)))


def known_by_age(known: Sequence[int]) -> list[int]:
    """For each of some segments, which know so many centroids, how many the youngest of its age does.

    >>> known_by_age([400, 4000, 5000, 5400, 40_000])
    [4000, 4000, 5400, 5400, 40000]
    """
    most: dict[int, int] = {}
    for count in set(known):
        most[age(count)] = max(count, most.get(age(count), 0))
    return [most[age(count)] for count in known]


def probes(query: NDArray[np.float32], table: ProbeTable, known: Sequence[int], nprobe: int) -> list[Probes]:
    """The `nprobe` best centroids of each query token for each of some segments, which know so many centroids."""
    among = known_by_age(known)
    found = {count: kernels.top_centroids(query, table.first(count), nprobe) for count in dict.fromkeys(among)}
    return [found[count] for count in among]
