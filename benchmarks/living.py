"""An index that lives: what deleting costs, what tombstones cost, and what eight readers notice of a writer.

    python -m benchmarks.living ~/vectors/wiki20k --scratch ~/living
    python -m benchmarks.living ~/vectors/wiki20k --scratch ~/living --documents 5000 --added 1000 --seconds 5    (a quick look)

1. Synthetic documents of 60 tokens on average (`benchmarks.synthetic`) are built into an index, kept in the scratch folder.
2. *Deleting*: a hundredth of the documents by id, in one commit; and whether any file of a segment changed.
3. *Tombstones*: three tenths are deleted; the same queries, in turn, to that index and to a compacted copy of it, both warm.
4. *Readers and a writer*: processes search without a pause, first by themselves, then while a writer adds documents and
   compacts. Half of them keep their generation, half move on with each commit. Afterwards every score that anybody was
   given is held against the score of that document in the index as it is then: the same bits, or a wrong answer.

With fewer cores than readers their latencies are mostly waiting for a core, with and without the writer: both are shown.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.synthetic import projected, synthetic
from benchmarks.vectors import Vectors
from colindex import BuildParams, Index, SearchParams, TokenBatch
from colindex.errors import ColindexError

SHORTEST, LONGEST = 40, 80
TOKENS_A_DOCUMENT = (SHORTEST + LONGEST) // 2
APPROXIMATE, EXACT = SearchParams(exact=False), SearchParams(exact=True)
K, MEMORY, REPEATS = 10, "1GiB", 3
STARTING, IDLE, DURING, OVER = range(4)
OPENING = 120
"""Seconds that readers may take to start."""
RESULTS = Path(__file__).parent / "results"

Queries = list[NDArray[np.float32]]
Answer = tuple[tuple[str, float], ...]


def batches(docs: Vectors, documents: int, seed: int, prefix: str) -> Iterator[TokenBatch]:
    """So many synthetic documents, or a few more; their ids begin with the prefix."""
    made = synthetic(docs, documents * TOKENS_A_DOCUMENT, seed=seed, shortest=SHORTEST, longest=LONGEST)
    return (replace(batch, ids=tuple(prefix + id_ for id_ in batch.ids)) for batch in made)


def built(scratch: Path, docs: Vectors, documents: int) -> Path:
    """The index that everything begins with; it is built once."""
    folder = scratch / f"living-{documents}.colindex"
    if not folder.exists():
        Index.build_from_vectors(folder, batches(docs, documents, 1, ""), BuildParams())
    return folder


def copied(folder: Path, name: str) -> Path:
    """A fresh copy of an index beside it."""
    copy = folder.with_name(name)
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(folder, copy))


# ---- deleting, and tombstones


def deleting(folder: Path) -> tuple[dict[str, Any], Path]:
    """Stage 2; what it cost, and the index with three tenths deleted, for stage 3."""
    path = copied(folder, "tombstones.colindex")
    with Index.open(path, memory=MEMORY) as index:
        count = len(index)
        ids = [f"s{number}" for number in np.random.default_rng(5).permutation(count)[: 3 * count // 10]]
        few, others = ids[: count // 100], ids[count // 100 :]
        before = _files(path / "segments")
        start = time.perf_counter()
        report = index.delete(few)
        seconds = time.perf_counter() - start
        rewritten = len(before ^ _files(path / "segments"))
        index.delete(others)
    row = {
        "documents": count, "deleted": len(few), "seconds": seconds, "bytes": report.bytes, "segment_files_changed": rewritten,
    }  # fmt: skip
    return row, path


def _files(folder: Path) -> set[tuple[str, int, int, int]]:
    """Every file with its inode, length and time."""
    stats = ((str(file), file.stat()) for file in folder.rglob("*") if file.is_file())
    return {(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats}


def tombstones(path: Path, queries: Queries) -> dict[str, Any]:
    """Stage 3."""
    compacted = copied(path, "compacted.colindex")
    with Index.open(compacted, memory=MEMORY) as index:
        start = time.perf_counter()
        index.compact(full=True)
        seconds = time.perf_counter() - start
    spent: list[list[float]] = [[], []]
    with Index.open(path, memory=MEMORY) as with_tombstones, Index.open(compacted, memory=MEMORY) as without:
        deleted, left = with_tombstones.stats().deleted, len(with_tombstones)
        for repeat in range(REPEATS + 1):  # the first fills the caches
            for query in queries:
                answers = []
                for index, times in zip((with_tombstones, without), spent, strict=True):
                    start = time.perf_counter()
                    hits = index.search_vectors(query, K, params=APPROXIMATE)
                    if repeat:
                        times.append(time.perf_counter() - start)
                    answers.append([(hit.id, hit.score) for hit in hits])
                assert len(answers[0]) == len(answers[1]) == K
    middle = [1000 * float(np.median(times)) for times in spent]
    late = [1000 * float(np.percentile(times, 95)) for times in spent]
    return {
        "deleted": deleted, "left": left, "compaction_seconds": seconds,
        "median_ms": middle, "p95_ms": late, "median_ratio": middle[0] / middle[1], "p95_ratio": late[0] / late[1],
    }  # fmt: skip


# ---- readers and a writer


@dataclass
class Read:
    """What one reader saw."""

    refreshes: bool
    seconds: dict[int, list[float]] = field(default_factory=lambda: {IDLE: [], DURING: []})
    answers: dict[int, set[Answer]] = field(default_factory=dict)
    """Distinct answers to each query."""
    failures: list[str] = field(default_factory=list)


def read_on(
    path: Path,
    queries: Queries,
    first: int,
    refreshes: bool,
    phase: Synchronized[int],
    ready: Semaphore,
    out: Queue[Read],
) -> None:
    """Search until it is over. Runs in a process of its own; what no search should raise ends it."""
    seen, number = Read(refreshes), first
    try:
        with Index.open(path, memory="128MiB", refresh=refreshes) as index:
            ready.release()
            while (now := phase.value) != OVER:
                start = time.perf_counter()
                try:
                    hits = index.search_vectors(queries[number], K, params=APPROXIMATE)
                    seen.answers.setdefault(number, set()).add(tuple((hit.id, hit.score) for hit in hits))
                except (ColindexError, OSError) as error:
                    seen.failures.append(repr(error))
                if now in seen.seconds:
                    seen.seconds[now].append(time.perf_counter() - start)
                number = (number + 1) % len(queries)
    finally:
        out.put(seen)  # the others wait for it


def together(folder: Path, docs: Vectors, queries: Queries, readers: int, added: int, seconds: float) -> dict[str, Any]:
    """Stage 4."""
    path = copied(folder, "together.colindex")
    context = multiprocessing.get_context("spawn")
    phase, ready, out = context.Value("i", STARTING), context.Semaphore(0), context.Queue()
    processes = [
        context.Process(
            target=read_on,
            args=(path, queries, number * 7 % len(queries), number % 2 == 1, phase, ready, out),
            daemon=True,  # if the writer fails, they end with it
        )
        for number in range(readers)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        assert ready.acquire(timeout=OPENING), f"a reader has not opened the index in {OPENING} s"
    time.sleep(seconds / 2)  # until their caches are warm
    phase.value = IDLE
    time.sleep(seconds)
    with Index.open(path, memory="256MiB") as writer:
        phase.value = DURING
        start = time.perf_counter()
        for part in range(4):
            writer.add_vectors(batches(docs, added // 4, 10 + part, f"a{part}-"))
        adding = time.perf_counter() - start
        writer.compact(full=True)
        compacting = time.perf_counter() - start - adding
        phase.value = OVER
        seen = [out.get() for _ in processes]
        for process in processes:
            process.join()
        assert not any(process.exitcode for process in processes), "a reader ended with what is printed above"
        wrong = wrong_answers(writer, queries, seen)
        documents = len(writer)
    idle, during = (np.concatenate([read.seconds[phase_] for read in seen]) * 1000 for phase_ in (IDLE, DURING))
    return {
        "readers": readers, "cores": os.cpu_count(), "added": documents - count_of(folder),
        "adding_seconds": adding, "compacting_seconds": compacting,
        "searches_idle": len(idle), "searches_during": len(during),
        "failed": sum(len(read.failures) for read in seen), "failures": [*{f for read in seen for f in read.failures}][:5],
        "wrong": wrong,
        "median_ms": [float(np.median(idle)), float(np.median(during))],
        "p95_ms": [float(np.percentile(idle, 95)), float(np.percentile(during, 95))],
        "p95_ratio": float(np.percentile(during, 95) / np.percentile(idle, 95)),
    }  # fmt: skip


def count_of(folder: Path) -> int:
    """Documents of an index."""
    with Index.open(folder, memory=MEMORY) as index:
        return len(index)


def wrong_answers(index: Index, queries: Queries, seen: list[Read]) -> int:
    """Answers with a score that is not the document's, or unordered, or too short; or changed where nothing may change."""
    wrong = 0
    for number, query in enumerate(queries):
        answers = [answer for read in seen for answer in read.answers.get(number, ())]
        ids = {id_ for answer in answers for id_, _ in answer}
        hits = index.search_vectors(query, len(ids), params=EXACT, ids=ids) if ids else []
        scores = {hit.id: hit.score for hit in hits}
        for answer in answers:
            given = [score for _, score in answer]
            right = len(dict(answer)) == K and given == sorted(given, reverse=True)
            wrong += not (right and all(scores.get(id_) == score for id_, score in answer))
        wrong += sum(len(read.answers.get(number, ())) > 1 for read in seen if not read.refreshes)
    return wrong


# ---- what comes out


def show(console: Console, found: dict[str, Any]) -> None:
    """A table of the figures beside what they have to be."""
    one, two, three = found["deleting"], found["tombstones"], found["together"]
    table = Table("what", "measured", "at most", title="A living index")
    table.add_row(f"delete {one['deleted']:,} of {one['documents']:,}, seconds", f"{one['seconds']:.3f}", "2")
    table.add_row("files of segments that changed", str(one["segment_files_changed"]), "0")
    table.add_row(f"search, {two['deleted']:,} tombstones : compacted, median", f"{two['median_ratio']:.2f}", "1.3")
    table.add_row("... 95th percentile", f"{two['p95_ratio']:.2f}", "1.3")
    table.add_row(
        f"{three['readers']} readers, {three['searches_during']:,} searches: failed", str(three["failed"]), "0"
    )
    table.add_row("... wrong", str(three["wrong"]), "0")
    idle, during = three["p95_ms"]
    table.add_row(
        f"... p95 while {three['added']:,} are added and compacted : idle ({during:.1f} : {idle:.1f} ms)",
        f"{three['p95_ratio']:.2f}",
        "2",
    )
    console.print(table)


@click.command()
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="Folder for the indexes.")
@click.option("--documents", default=100_000, show_default=True)
@click.option("--added", default=20_000, show_default=True, help="Documents that the writer adds.")
@click.option("--readers", default=8, show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="How long the readers search by themselves.")
@click.option("--queries", "query_count", default=100, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "living.json", show_default=True)
def main(
    vectors: Path,
    scratch: Path,
    documents: int,
    added: int,
    readers: int,
    seconds: float,
    query_count: int,
    output: Path,
) -> None:
    """Measure deleting, tombstones, and readers beside a writer."""
    scratch.mkdir(parents=True, exist_ok=True)
    docs, queries = projected(vectors)
    queries = queries[:query_count]
    folder = built(scratch, docs, documents)
    row, with_tombstones = deleting(folder)
    found = {
        "deleting": row,
        "tombstones": tombstones(with_tombstones, queries),
        "together": together(folder, docs, queries, readers, added, seconds),
    }
    show(Console(), found)
    output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
