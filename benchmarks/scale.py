"""How cost grows with the corpus: built inside 2 GiB, searched inside a tenth of its records, from 62,500 documents to a million.

    python -m benchmarks.scale ~/vectors/wiki20k --scratch ~/scale           (as root: it makes memory cgroups)
    python -m benchmarks.scale ~/vectors/wiki20k --scratch ~/scale --documents 62500 --documents 125000

1. Synthetic documents of 60 tokens on average (`benchmarks.synthetic`), built from vectors inside a memory limit, on two cores.
2. Searched one-threaded with a tenth of the record bytes as budget, or with the least that the index opens with where that
   is more; every query twice, the second time measured, so that the cache is as warm as the budget lets it be.
3. Recall of the exact top 10 (by the same records) on the first queries.
4. A table, a plot, and the exponent of each cost: the slope of its logarithm over the logarithm of the documents.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.processes import interpreter_bytes, reset_peak, run, status
from benchmarks.synthetic import projected, synthetic
from benchmarks.vectors import Vectors
from colindex import BuildParams, Index, SearchParams
from colindex.errors import MemoryBudgetError
from colindex.evaluate import percentiles

SIZES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
SHORTEST, LONGEST = 40, 80
TOKENS_A_DOCUMENT = (SHORTEST + LONGEST) // 2
BUILD_LIMIT = 2 << 30
SLACK = 64 << 20
"""Of the search's limit, for what the interpreter itself allocates while it runs."""
RESULTS = Path(__file__).parent / "results"
COSTS = ("build_s", "p50", "p95", "probe", "gather", "fetch", "refine")


def build_here(source: str, folder: str, tokens: int) -> None:
    """Body of the building process; what it makes documents of stays in files, so that its memory is the build's."""
    vectors, token_ids = (np.load(Path(source, name), mmap_mode="r") for name in ("vectors.npy", "token_ids.npy"))
    docs = Vectors((), vectors, token_ids, np.array([0, len(vectors)]))
    reset_peak()
    resident, start = status("VmRSS"), time.perf_counter()
    batches = synthetic(docs, tokens, shortest=SHORTEST, longest=LONGEST)
    report = Index.build_from_vectors(folder, batches, BuildParams())
    click.echo(json.dumps({
        "documents": report.documents, "tokens": report.tokens, "build_s": time.perf_counter() - start,
        "build_peak_mib": (status("VmHWM") - resident) / 2**20, "stages_s": dict(report.seconds),
    }))  # fmt: skip


def search_here(folder: str, queries: str, memory: int, exact: int) -> None:
    """Body of the searching process."""
    asked = np.load(queries)
    vectors = np.split(asked["v"], asked["o"][1:-1])
    params = SearchParams(exact=False)
    stages: dict[str, float] = {}
    seconds, reads, candidates, recalls = [], 0, 0, []
    with Index.open(folder, memory=memory) as index:
        for query in vectors:
            index.search_vectors(query, 10, params=params)
        for query in vectors:
            start = time.perf_counter()
            _, stats = index.search_vectors_with_stats(query, 10, params=params)
            seconds.append(time.perf_counter() - start)
            reads, candidates = reads + stats.bytes_read, candidates + stats.candidates
            for stage, spent in stats.seconds.items():
                stages[stage] = stages.get(stage, 0.0) + spent
        for query in vectors[:exact]:
            found = {hit.id for hit in index.search_vectors(query, 10, params=params)}
            best = {hit.id for hit in index.search_vectors(query, 10, params=SearchParams(exact=True))}
            recalls.append(len(found & best) / len(best))
        summary = index.stats()
    click.echo(json.dumps({
        **percentiles(seconds), **{stage: 1000 * spent / len(vectors) for stage, spent in stages.items()},
        "kib_read": reads / len(vectors) / 1024, "candidates": candidates / len(vectors),
        "recall": float(np.mean(recalls)) if recalls else None, "centroids": summary.centroids,
        "segments": summary.segments, "resident_mib": summary.resident_bytes / 2**20, "budget_mib": memory / 2**20,
    }))  # fmt: skip


def measure(scratch: Path, documents: int, exact: int) -> dict[str, Any]:
    """Build and search one size."""
    folder = scratch / f"{documents}.colindex"
    shutil.rmtree(folder, ignore_errors=True)
    tokens = documents * TOKENS_A_DOCUMENT
    module = "benchmarks.scale"
    built = run(module, "build_here", (str(scratch), str(folder), tokens), limit=BUILD_LIMIT, threads=2)
    records = sum(file.stat().st_size for file in folder.glob("segments/*/records/c/**/*") if file.is_file())
    budget = max(records // 10, least_budget(folder))
    limit = budget + interpreter_bytes() + SLACK
    searched = run(module, "search_here", (str(folder), str(scratch / "queries.npz"), budget, exact), limit=limit)
    shutil.rmtree(folder)
    built |= {f"build_{name}": built.pop(name) for name in ("group_peak_mib", "group_failures")}
    return {**built, **searched, "records_mib": records / 2**20}


def least_budget(folder: Path) -> int:
    """The smallest whole number of MiB that the index opens with."""
    low, high = 1, 1 << 14
    while low < high:
        middle = (low + high) // 2
        try:
            Index.open(folder, memory=middle << 20).close()
        except MemoryBudgetError:
            low = middle + 1
        else:
            high = middle
    return low << 20


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The slope of each cost in log-log: 1 is linear in documents."""
    x = np.log([row["documents"] for row in rows])
    return {cost: float(np.polyfit(x, np.log([row[cost] for row in rows]), 1)[0]) for cost in COSTS}


def show(console: Console, rows: list[dict[str, Any]], slopes: dict[str, float]) -> None:
    """The table."""
    columns = ("documents", "tokens", "build_s", "group_peak_mib", "records_mib", "budget_mib", "centroids", "p50", "p95",
               "probe", "gather", "fetch", "refine", "candidates", "kib_read", "recall")  # fmt: skip
    table = Table(*columns)
    for row in rows:
        table.add_row(*(_figure(row[column]) for column in columns))
    table.add_row("exponent", *(f"{slopes[column]:.2f}" if column in slopes else "" for column in columns[1:]))
    console.print(table)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def plot(path: Path, rows: list[dict[str, Any]], slopes: dict[str, float]) -> None:
    """Latency by stage against documents, both logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    x = [row["documents"] for row in rows]
    for cost in COSTS[1:]:
        style = {"p50": "o-", "p95": "s-"}.get(cost, ".--")
        axes.plot(x, [row[cost] for row in rows], style, label=f"{cost}  (exponent {slopes[cost]:.2f})")
    axes.set(xscale="log", yscale="log", xlabel="documents (60 tokens each)", ylabel="milliseconds a query, one thread",
             title="Searched inside a tenth of the record bytes")  # fmt: skip
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)
    plt.close(figure)


@click.command()
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="Folder for the indexes.")
@click.option("--documents", type=int, multiple=True, default=SIZES, show_default=True)
@click.option("--queries", default=300, show_default=True, help="Queries to measure.")
@click.option("--exact", default=20, show_default=True, help="Queries whose recall is taken against exact search.")
def main(vectors: Path, scratch: Path, documents: tuple[int, ...], queries: int, exact: int) -> None:
    """Measure how the cost of building and searching grows with the corpus."""
    console = Console(width=200)
    scratch.mkdir(parents=True, exist_ok=True)
    docs, asked = projected(vectors)
    np.save(scratch / "vectors.npy", docs.vectors)
    np.save(scratch / "token_ids.npy", docs.token_ids)
    del docs
    asked = asked[:queries]
    np.savez(scratch / "queries.npz", v=np.concatenate(asked), o=np.cumsum([0, *(len(query) for query in asked)]))
    rows = []
    for number in documents:
        rows.append(measure(scratch, number, exact))
        console.print(f"{number:,} documents:", {name: value for name, value in rows[-1].items() if name != "stages_s"})
    slopes = exponents(rows) if len(rows) > 1 else dict.fromkeys(COSTS, math.nan)
    show(console, rows, slopes)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps({"rows": rows, "exponents": slopes}, indent=1) + "\n")
    if len(rows) > 1:
        plot(RESULTS / "scale.png", rows, slopes)


if __name__ == "__main__":
    main()
