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
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.vectors import Vectors, load
from colindex import BuildParams, Index, SearchParams, TokenBatch
from colindex.evaluate import percentiles
from colindex.projection import learn_projection

CGROUPS = Path("/sys/fs/cgroup/memory")
NOISE = 0.35
DIM = 128


def projected(vectors: Path) -> tuple[Vectors, list[NDArray[np.float32]]]:
    """The collection's vectors and queries at 128 dims."""
    docs, queries = load(vectors / "docs.npz"), load(vectors / "queries.npz")
    chosen = np.random.default_rng(0).permutation(len(docs.vectors))[:65_536]
    projection = learn_projection(docs.vectors[chosen].astype(np.float32), DIM, 0)
    small = Vectors(docs.ids, projection.apply(docs.vectors).astype(np.float16), docs.token_ids, docs.offsets)
    return small, [projection.apply(query) for query in queries.each()[:300]]


def synthetic(docs: Vectors, tokens: int, seed: int = 1) -> Iterator[TokenBatch]:
    """Batches of windows of real vectors with noise, until there are so many tokens."""
    rng, made, number = np.random.default_rng(seed), 0, 0
    while made < tokens:
        lengths = rng.integers(100, 251, 512)
        starts = rng.integers(0, len(docs.vectors) - 250, 512)
        rows = np.concatenate([np.arange(a, a + n) for a, n in zip(starts, lengths, strict=True)])
        vectors = docs.vectors[rows].astype(np.float32)
        vectors += rng.standard_normal(vectors.shape, np.float32) * np.float32(NOISE / np.sqrt(DIM))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield TokenBatch(
            ids=tuple(f"s{n}" for n in range(number, number + 512)),
            vectors=vectors.astype(np.float16),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            token_ids=docs.token_ids[rows],
        )
        made, number = made + len(rows), number + 512


def build(vectors: Path, folder: Path, tokens: int) -> dict[str, float]:
    """Build in a process of its own, so that its peak memory is its own."""
    code = (
        f"from benchmarks.larger_than_memory import build_here; build_here({str(vectors)!r}, {str(folder)!r}, {tokens})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def build_here(vectors: str, folder: str, tokens: int) -> None:
    """Body of the building process."""
    docs, _ = projected(Path(vectors))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _reset_peak()
    resident = _status("VmRSS")
    start = time.perf_counter()
    report = Index.build_from_vectors(folder, synthetic(docs, tokens), BuildParams())
    seconds = time.perf_counter() - start
    peak = _status("VmHWM")
    click.echo(json.dumps({
        "tokens": report.tokens, "documents": report.documents, "seconds": seconds, "before": before,
        "peak_mib": (peak - resident) / 2**20, **{f"{stage}_s": spent for stage, spent in report.seconds.items()},
    }))  # fmt: skip


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def search_here(folder: str, queries: str, memory: int) -> None:
    """Body of the searching process: hits, times and memory as JSON."""
    asked = np.load(queries)
    vectors = np.split(asked["v"], asked["o"][1:-1])
    interpreter = _status("VmRSS")
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
        "rss_mib": _status("VmRSS") / 2**20, "interpreter_mib": interpreter / 2**20,
    }))  # fmt: skip


def search(folder: Path, queries: Path, memory: int, limit: int | None) -> dict[str, object]:
    """Search in a process of its own, inside a cgroup of `limit` bytes where one is given."""
    code = (
        f"from benchmarks.larger_than_memory import search_here; "
        f"search_here({str(folder)!r}, {str(queries)!r}, {memory})"
    )
    group = CGROUPS / "colindex-benchmark"
    if limit is not None:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(limit))

    def enter() -> None:
        if limit is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, preexec_fn=enter, env=environment
    )
    if done.returncode:
        raise click.ClickException(f"the search ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    if limit is not None:
        result["group_peak_mib"] = int((group / "memory.max_usage_in_bytes").read_text()) / 2**20
        result["group_failures"] = int((group / "memory.failcnt").read_text())
        group.rmdir()
    return result


def interpreter_bytes() -> int:
    """Resident bytes of a process that has imported everything but opened nothing."""
    code = "import benchmarks.larger_than_memory as b; import colindex.index; print(b._status('VmRSS'))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


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
    console: Console, small: dict[str, object], large: dict[str, object], records: int, budget: int, interpreter: int
) -> None:
    table = Table("", "1/8 of the records", "everything cached")
    for name in ("ms", "stage_ms", "rss_mib", "group_peak_mib", "group_failures"):
        table.add_row(name, str(small.get(name, "")), str(large.get(name, "")))
    for name in ("resident", "cache", "disk"):
        table.add_row(name, str(small["stats"][name]), str(large["stats"][name]))  # type: ignore[index]
    console.print(table)
    resident = small["stats"]["resident"]  # type: ignore[index]
    without = sum(size for part, size in resident.items() if part != "cache arena")
    console.print(
        f"records {records / 2**20:.0f} MiB, budget {budget / 2**20:.0f} MiB, interpreter {interpreter / 2**20:.0f} MiB; "
        f"resident without the cache's arena {without / 2**20:.1f} MiB = 1/{records / without:.1f} of the records"
    )


if __name__ == "__main__":
    main()
