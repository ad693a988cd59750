"""What the peer benchmark found, as values: rows, the file they are kept in, and what is computed from them.

- Recall: the share of the exact top k that was found, mean over queries.
- Latency of a query: the median over the repetitions; of a setting: median and 95th percentile over the queries.
- Times faster at equal recall: the median latency of a peer's row, divided by that of the fastest row of ours whose recall
  is at least that row's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["OURS", "BuildRow", "Results", "SearchRow", "frontier", "recall", "summary"]

OURS = "colindex"
"""The engine that the others are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRow:
    """One build, or why there is none."""

    name: str
    engine: str
    seconds: float | None = None
    given_up: float | None = None
    """Seconds of building after which it was ended: it takes longer than that."""
    bytes_a_token: float | None = None
    """Everything in the index's folder."""
    peak_mib: float | None = None
    """Peak resident memory of the building process, its inputs included."""
    inputs_mib: float | None = None
    """Resident memory before the build began."""
    version: str = ""
    date: str = ""
    cached: bool = False
    """From an earlier run on this scratch folder."""
    reason: str | None = None
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One setting of one contestant, or why it has no figures."""

    name: str
    engine: str
    setting: str
    recall: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    repetitions: int = 0
    refines: bool = False
    """Was handed its candidates."""
    note: str = ""
    reason: str | None = None
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One run over one collection."""

    collection: str
    subset: int | None
    documents: int
    tokens: int
    dim: int
    queries: int
    k: int
    search_threads: int
    build_threads: int
    machine: str
    commit: str
    date: str
    command: str
    builds: tuple[BuildRow, ...]
    searches: tuple[SearchRow, ...]

    @property
    def label(self) -> str:
        """Name of the files."""
        return self.collection if self.subset is None else f"{self.collection}-{self.subset}"

    def equal(self, row: SearchRow) -> SearchRow | None:
        """The fastest row of ours that finds at least as much; None if none does, or the row is not to be compared."""
        if row.engine == OURS or row.refines or row.recall is None:
            return None
        reaching = [ours for ours in _measured(self.searches) if ours.engine == OURS and _recall(ours) >= row.recall]
        return min(reaching, key=_latency, default=None)

    def faster(self, row: SearchRow) -> float | None:
        """How many times faster we are at that row's recall."""
        ours = self.equal(row)
        return None if ours is None else _latency(row) / _latency(ours)

    def builds_faster(self, row: BuildRow) -> float | None:
        """How many times faster our slowest build is than that row's; a bound from below where that one was given up."""
        ours = [own.seconds for own in self.builds if own.engine == OURS and own.seconds]
        theirs = row.seconds or row.given_up
        return None if row.engine == OURS or not theirs or not ours else theirs / max(ours)

    def save(self, folder: Path) -> Path:
        """Write `peers-LABEL.json`."""
        path = folder / f"peers-{self.label}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        builds = tuple(BuildRow(**row) for row in values.pop("builds"))
        searches = tuple(SearchRow(**row) for row in values.pop("searches"))
        return cls(**values, builds=builds, searches=searches)


def recall(found: Sequence[Sequence[int]], exact: Sequence[Sequence[int]]) -> float:
    """Mean share of each query's exact documents that were found.

    >>> recall([[3, 1], [5, 6]], [[1, 2], [6, 5]])
    0.75
    """
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found, exact, strict=True)]))


def summary(seconds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Median and 95th percentile over the queries, in ms, of each query's median over the repetitions [repetitions, queries].

    >>> summary([[0.001, 0.005], [0.003, 0.005], [0.002, 0.009]])
    (3.5, 4.85)
    """
    each = np.median(np.asarray(seconds), axis=0) * 1000
    return round(float(np.median(each)), 4), round(float(np.percentile(each, 95)), 4)


def frontier(rows: Iterable[SearchRow]) -> list[SearchRow]:
    """The measured rows that no other one beats in both recall and latency, fastest first."""
    kept: list[SearchRow] = []
    for row in sorted(_measured(rows), key=lambda one: (_latency(one), -_recall(one))):
        if not kept or _recall(row) > _recall(kept[-1]):
            kept.append(row)
    return kept


def _measured(rows: Iterable[SearchRow]) -> list[SearchRow]:
    return [row for row in rows if row.recall is not None and row.median_ms is not None]


def _recall(row: SearchRow) -> float:
    return -1.0 if row.recall is None else row.recall


def _latency(row: SearchRow) -> float:
    return float("inf") if row.median_ms is None else row.median_ms
