"""An index eight times larger than its memory, searched inside a memory limit that the kernel enforces.

    python -m benchmarks.larger_than_memory ~/vectors/wiki20k --tokens 20000000       (as root: it makes a memory cgroup)

1. Synthetic documents: windows of 100 to 250 real token vectors (PCA to 128 dims) with noise, each window kept with its
   vocabulary ids; queries are real. Memory of the build is sampled.
2. A process whose cgroup may use budget + interpreter, where budget = record bytes / 8, searches every query.
3. A process with everything cached searches the same queries: hits and scores have to be the same.

`--scale` builds a quarter of the documents too: peak memory of both builds side by side.
"""

from __future__ import annotations

import json
import resource
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
from colindex import BuildParams, Index, SearchParams
from colindex.evaluate import percentiles


def build(vectors: Path, folder: Path, tokens: int) -> dict[str, Any]:
    """Build in a process of its own, so that its peak memory is its own."""
    return run("benchmarks.larger_than_memory", "build_here", (str(vectors), str(folder), tokens), threads=2)


def build_here(vectors: str, folder: str, tokens: int) -> None:
    """Body of the building process."""
    docs, _ = projected(Path(vectors))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    reset_peak()
    resident = status("VmRSS")
    start = time.perf_counter()
    report = Index.build_from_vectors(folder, synthetic(docs, tokens), BuildParams())
    seconds = time.perf_counter() - start
    peak = status("VmHWM")
    click.echo(json.dumps({
        "tokens": report.tokens, "documents": report.documents, "seconds": seconds, "before": before,
        "peak_mib": (peak - resident) / 2**20, **{f"{stage}_s": spent for stage, spent in report.seconds.items()},
    }))  # fmt: skip


def search_here(folder: str, queries: str, memory: int) -> None:
    """Body of the searching process: hits, times and memory as JSON."""
    asked = np.load(queries)
    vectors = np.split(asked["v"], asked["o"][1:-1])
    interpreter = status("VmRSS")
    found, seconds, stages = [], [], {}
    with Index.open(folder, memory=memory) as index:
        for query in vectors:
            start = time.perf_counter()
            hits, stats = index.search_vectors_with_stats(query, 10, params=SearchParams(exact=False))
            seconds.append(time.perf_counter() - start)
            found.append([(hit.id, hit.score) for hit in hits])
            for stage, spent in stats.seconds.items():
                stages[stage] = stages.get(stage, 0.0) + spent
        summary = index.stats().as_dict()
    mean = {stage: 1000 * spent / len(vectors) for stage, spent in stages.items()}
    click.echo(json.dumps({
        "hits": found, "stats": summary, "ms": percentiles(seconds), "stage_ms": mean,
        "rss_mib": status("VmRSS") / 2**20, "interpreter_mib": interpreter / 2**20,
    }))  # fmt: skip


def search(folder: Path, queries: Path, memory: int, limit: int | None) -> dict[str, Any]:
    """Search in a process of its own, inside a cgroup of `limit` bytes where one is given."""
    return run("benchmarks.larger_than_memory", "search_here", (str(folder), str(queries), memory), limit=limit)


@click.command()
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@click.option("--tokens", default=20_000_000, show_default=True)
@click.option("--scale", is_flag=True, help="Build a quarter of it too, and compare peak memory.")
@click.option("--keep", is_flag=True, help="Keep the index, or use the one that is there.")
def main(vectors: Path, tokens: int, scale: bool, keep: bool) -> None:
    """Search an index eight times larger than its memory."""
    console = Console(width=140)
    if scale:
        quarter = build(vectors, vectors / "quarter.colindex", tokens // 4)
        shutil.rmtree(vectors / "quarter.colindex")
        console.print("build at 1/4:", quarter)
    folder = vectors / "larger.colindex"
    if not folder.exists():
        console.print("build:", build(vectors, folder, tokens))
    _, queries = projected(vectors)
    path = vectors / "larger.queries.npz"
    np.savez(path, v=np.concatenate(queries), o=np.cumsum([0, *(len(query) for query in queries)]))
    records = sum(file.stat().st_size for file in folder.glob("segments/*/records/c/**/*") if file.is_file())
    budget, interpreter = records // 8, interpreter_bytes()
    small = search(folder, path, budget, budget + interpreter)
    large = search(folder, path, 8 << 30, None)
    _show(console, small, large, records, budget, interpreter)
    if not keep:
        shutil.rmtree(folder)
    if small["hits"] != large["hits"]:
        raise click.ClickException("the hits differ from those with everything cached")
    console.print("hits and scores are the same")


def _show(
    console: Console, small: dict[str, Any], large: dict[str, Any], records: int, budget: int, interpreter: int
) -> None:
    table = Table("", "1/8 of the records", "everything cached")
    for name in ("ms", "stage_ms", "rss_mib", "group_peak_mib", "group_failures"):
        table.add_row(name, str(small.get(name, "")), str(large.get(name, "")))
    for name in ("resident", "cache", "disk"):
        table.add_row(name, str(small["stats"][name]), str(large["stats"][name]))
    console.print(table)
    resident = small["stats"]["resident"]
    without = sum(size for part, size in resident.items() if part != "cache arena")
    console.print(
        f"records {records / 2**20:.0f} MiB, budget {budget / 2**20:.0f} MiB, interpreter {interpreter / 2**20:.0f} MiB; "
        f"resident without the cache's arena {without / 2**20:.1f} MiB = 1/{records / without:.1f} of the records"
    )


if __name__ == "__main__":
    main()
