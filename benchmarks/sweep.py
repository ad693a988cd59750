"""Which settings are worth their cost? Recall, latency and bytes over a grid, on several collections; a Pareto plot.

    python -m benchmarks.sweep ~/vectors/scifact ~/vectors/npl ~/vectors/wiki20k --dim 128

1. For each collection and number of bits: build from vectors (PCA to `--dim`, once a collection the exact top 10 by float32
   MaxSim over the vectors before coding).
2. For each nprobe and limit of candidates: recall of the exact top 10, median latency of one thread with everything cached,
   candidates refined.
3. The Pareto front of each collection: settings that no other beats in both recall and latency.
4. The defaults to choose: of the settings whose recall is within `--near` of their bits' best on *every* collection, the one
   with the least sum of logarithms of latency.
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality import build, exact_top, recall, stored_space
from benchmarks.vectors import Vectors, load
from colindex import BuildParams, Index, SearchParams

RESULTS = Path(__file__).parent / "results"
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Point:
    """One setting on one collection."""

    collection: str
    bits: int
    nprobe: int
    candidates: int
    recall: float
    """Of the exact top 10."""
    p50: float
    """Milliseconds, one thread, everything cached: the median over queries of the best of some repetitions."""
    refined: float
    """Documents scored by their records, mean."""
    bytes_per_token: float

    @property
    def setting(self) -> tuple[int, int, int]:
        """What was set."""
        return self.bits, self.nprobe, self.candidates


def points(
    name: str, docs: Vectors, queries: Vectors, dim: int | None, bits: Sequence[int], grid: Sequence[tuple[int, int]]
) -> list[Point]:
    """Steps 1 and 2 for one collection."""
    found: list[Point] = []
    exact: list[list[str]] | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for width in bits:
            folder = Path(scratch) / f"{width}.colindex"
            build(folder, docs, BuildParams(bits=width, dim=dim))
            if exact is None:
                codebook = stored_space(folder)
                asked = [codebook.project(query) for query in queries.each()]
                top = exact_top(codebook.project(docs.vectors), docs.offsets, asked, 10)
                exact = [[docs.ids[number] for number in row] for row in top]
            found += [measured(name, folder, width, setting, queries, exact) for setting in grid]
    return found


def measured(
    name: str, folder: Path, bits: int, setting: tuple[int, int], queries: Vectors, exact: list[list[str]]
) -> Point:
    """One setting on one index."""
    params = SearchParams(nprobe=setting[0], candidates=setting[1], exact=False)
    seconds = np.full((REPEATS, len(queries.ids)), np.inf)
    refined, answers = [], []
    with Index.open(folder, memory="8GiB") as index:
        for query in queries.each():  # warm-up, and the answers
            hits, stats = index.search_vectors_with_stats(query, 10, params=params)
            answers.append([hit.id for hit in hits])
            refined.append(stats.candidates)
        for repeat, (number, query) in itertools.product(range(REPEATS), enumerate(queries.each())):
            start = time.perf_counter()
            index.search_vectors(query, 10, params=params)
            seconds[repeat, number] = time.perf_counter() - start
        size = index.stats().record_bytes_per_token
    p50 = 1000 * float(np.median(seconds.min(axis=0)))
    return Point(name, bits, *setting, recall(answers, exact), p50, float(np.mean(refined)), size)


def front(some: Sequence[Point]) -> list[Point]:
    """Step 3: those that no other beats in both, by rising latency."""
    best, kept = -1.0, []
    for point in sorted(some, key=lambda point: (point.p50, -point.recall)):
        if point.recall > best:
            best, kept = point.recall, [*kept, point]
    return kept


def advised(every: Sequence[Point], near: float) -> dict[int, tuple[int, int, int] | None]:
    """Step 4: by bits, the cheapest setting that is nearly as good as the best on every collection."""
    chosen: dict[int, tuple[int, int, int] | None] = {}
    for bits in sorted({point.bits for point in every}):
        mine = [point for point in every if point.bits == bits]
        best = {point.collection: 0.0 for point in mine}
        for point in mine:
            best[point.collection] = max(best[point.collection], point.recall)
        good = {point.setting for point in mine}
        good -= {point.setting for point in mine if point.recall < best[point.collection] - near}
        cost = {
            setting: sum(math.log(point.p50) for point in mine if point.setting == setting) for setting in sorted(good)
        }
        chosen[bits] = min(cost, key=cost.__getitem__) if cost else None
    return chosen


def plot(path: Path, every: Sequence[Point]) -> None:
    """Recall against latency, a panel for each collection, the Pareto front drawn through."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(point.collection for point in every))
    figure, panels = plt.subplots(1, len(names), figsize=(5 * len(names), 4.2), layout="constrained", squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        for bits in sorted({point.bits for point in every}):
            mine = [point for point in every if point.collection == name and point.bits == bits]
            dots = axes.scatter([p.p50 for p in mine], [p.recall for p in mine], s=12, alpha=0.5)
            best = front(mine)
            size = mine[0].bytes_per_token
            axes.plot([p.p50 for p in best], [p.recall for p in best], color=dots.get_facecolor()[0][:3],
                      label=f"{bits} bits, {size:.0f} bytes a token")  # fmt: skip
        axes.set(xscale="log", title=name, xlabel="p50, ms, one thread", ylabel="recall of the exact top 10")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def show(console: Console, every: Sequence[Point]) -> None:
    """The Pareto fronts as a table."""
    table = Table("collection", "bits", "bytes/token", "nprobe", "candidates", "recall", "p50 ms", "refined")
    for name in dict.fromkeys(point.collection for point in every):
        for point in front([point for point in every if point.collection == name]):
            table.add_row(name, str(point.bits), f"{point.bytes_per_token:.1f}", str(point.nprobe), str(point.candidates),
                          f"{point.recall:.4f}", f"{point.p50:.2f}", f"{point.refined:.0f}")  # fmt: skip
    console.print(table)


@click.command()
@click.argument("collections", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--dim", type=int)
@click.option("--bits", type=int, multiple=True, default=(2, 4), show_default=True)
@click.option("--nprobe", type=int, multiple=True, default=(4, 8, 16, 32, 64, 128), show_default=True)
@click.option("--candidates", type=int, multiple=True, default=(32, 64, 128, 256, 512, 1024), show_default=True)
@click.option("--queries", "limit", type=int, default=300, show_default=True, help="Take the first so many queries.")
@click.option("--near", default=0.003, show_default=True, help="Recall that a cheaper setting may lose.")
def main(
    collections: tuple[Path, ...],
    dim: int | None,
    bits: tuple[int, ...],
    nprobe: tuple[int, ...],
    candidates: tuple[int, ...],
    limit: int,
    near: float,
) -> None:
    """Measure a grid of settings on collections of vectors."""
    console, every = Console(width=120), []
    for folder in collections:
        docs, queries = load(folder / "docs.npz"), load(folder / "queries.npz").first(limit)
        console.print(f"{folder.name}: {len(docs.vectors):,} tokens, {len(queries.ids)} queries")
        every += points(folder.name, docs, queries, dim, bits, list(itertools.product(nprobe, candidates)))
    show(console, every)
    chosen = advised(every, near)
    for width, setting in chosen.items():
        told = "none of this grid" if setting is None else f"nprobe {setting[1]}, candidates {setting[2]}"
        console.print(f"{width} bits: {told}")
    RESULTS.mkdir(exist_ok=True)
    rows = {"points": [asdict(point) for point in every], "advised": chosen, "near": near}
    (RESULTS / "sweep.json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(RESULTS / "sweep.png", every)


if __name__ == "__main__":
    main()
