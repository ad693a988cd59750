"""Queries a second on one thread and on two, and how long a fresh process takes to its first answer.

    python -m benchmarks.throughput scifact.colindex ~/vectors/scifact

1. *Batches*: all queries by `search_vectors_batch`, everything cached, one thread and two in turn; medians, and the share of the
   clock in which the threads were idle: processor time tells what they waited for from what the machine took away. And by one
   process and two, each with an index of its own on one thread: two share nothing but the machine, which is what two threads
   may reach.
2. *Whole searches, warm*: the same queries one by one in a cache that holds everything and was filled by reads; against the
   time that they take without fetching, as if their records had lain ready in memory.
3. *Start*: a fresh interpreter imports colindex, opens the index and answers one query given as vectors; and `import colindex`.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.vectors import load
from colindex import Index, SearchParams

PARAMS = SearchParams(exact=False)
STARTS = 5
TURN = 6
"""Batches in one turn: some seconds, for a core that slept takes a while to be as fast as one that did not."""
STARTING = 120
"""Seconds in which a process has to have started."""


class Pace(NamedTuple):
    """How fast batches were answered."""

    seconds: float
    """For all queries."""
    idle: float
    """Share of the threads' time in which they used no processor."""


def batches(folder: Path, queries: list[NDArray[np.float32]], threads: tuple[int, ...], repeats: int) -> list[Pace]:
    """All queries with each number of threads, in turn; medians."""
    paces: list[list[Pace]] = [[] for _ in threads]
    opened = [Index.open(folder, memory="4GiB", threads=number) for number in threads]
    for repeat in range(repeats + 1):  # the first fills the cache
        for index, number, spent in zip(opened, threads, paces, strict=True):
            start, used = time.perf_counter(), time.process_time()
            for _ in range(TURN):
                index.search_vectors_batch(queries, 10, params=PARAMS)
            seconds, used = time.perf_counter() - start, time.process_time() - used
            if repeat:
                spent.append(Pace(seconds / TURN, 1 - used / (number * seconds)))
    for index in opened:
        index.close()
    return [Pace(*np.median(spent, axis=0).tolist()) for spent in paces]


def by_processes(folder: Path, queries: list[NDArray[np.float32]], count: int, repeats: int) -> float:
    """Queries a second of so many processes together."""
    context = multiprocessing.get_context("spawn")
    begin, out = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=_searching, args=(folder, queries, repeats, begin, out), daemon=True)
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    seconds: list[float] = [out.get(timeout=STARTING) for _ in processes]
    for process in processes:
        process.join()
    return float(sum(repeats * len(queries) / spent for spent in seconds))


def _searching(
    folder: Path, queries: list[NDArray[np.float32]], repeats: int, begin: Barrier, out: Queue[float]
) -> None:
    """Body of one of them."""
    with Index.open(folder, memory="4GiB", threads=1) as index:
        index.search_vectors_batch(queries, 10, params=PARAMS)  # fills the cache
        begin.wait(STARTING)
        start = time.perf_counter()
        for _ in range(repeats):
            index.search_vectors_batch(queries, 10, params=PARAMS)
        out.put(time.perf_counter() - start)


def share_of_fetching(folder: Path, queries: list[NDArray[np.float32]], repeats: int) -> tuple[float, float]:
    """Milliseconds of a whole warm search, and of its fetching: medians over queries and repetitions."""
    whole, fetching = [], []
    with Index.open(folder, memory="4GiB") as index:
        for repeat in range(repeats + 1):
            for query in queries:
                start = time.perf_counter()
                _, stats = index.search_vectors_with_stats(query, 10, params=PARAMS)
                if repeat:
                    whole.append(time.perf_counter() - start)
                    fetching.append(stats.seconds["fetch"])
    return 1000 * float(np.median(whole)), 1000 * float(np.median(fetching))


def first_answer(folder: Path, query: Path) -> float:
    """Seconds from the start of an interpreter to its first answer."""
    code = (
        "import sys, numpy as np\n"
        "from colindex import Index, SearchParams\n"
        "with Index.open(sys.argv[1]) as index:\n"
        "    index.search_vectors(np.load(sys.argv[2]), 10, params=SearchParams(exact=False))[0].document\n"
    )
    return _seconds(["-c", code, str(folder), str(query)])


def _seconds(arguments: list[str]) -> float:
    spent = []
    for _ in range(STARTS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@click.option("--queries", "limit", default=300, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(folder: Path, vectors: Path, limit: int, repeats: int) -> None:
    """Measure an index that was built from the vectors (or their text)."""
    queries = load(vectors / "queries.npz").first(limit).each()
    one, two = batches(folder, queries, (1, 2), repeats)
    alone, both = (by_processes(folder, queries, count, repeats) for count in (1, 2))
    whole, fetching = share_of_fetching(folder, queries, repeats)
    query = folder.parent / f".{folder.name}.query.npy"
    np.save(query, queries[0])
    try:
        start = first_answer(folder, query)
    finally:
        query.unlink()
    table = Table("what", "figure")
    table.add_row("queries/s, one thread", f"{len(queries) / one.seconds:.0f}  (idle {one.idle:.2f})")
    table.add_row(
        "queries/s, two threads",
        f"{len(queries) / two.seconds:.0f}  ({one.seconds / two.seconds:.2f}x; idle {two.idle:.2f})",
    )
    table.add_row("queries/s, one process", f"{alone:.0f}")
    table.add_row("queries/s, two processes", f"{both:.0f}  ({both / alone:.2f}x)")
    table.add_row("one search, everything cached", f"{whole:.2f} ms")
    table.add_row(
        "of it fetching from the cache", f"{fetching:.3f} ms  (whole : without it = {whole / (whole - fetching):.3f})"
    )
    table.add_row("a fresh interpreter's first answer", f"{start:.2f} s")
    table.add_row("import colindex, interpreter included", f"{_seconds(['-c', 'import colindex']):.3f} s")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
