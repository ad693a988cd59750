"""How long reads of a query's documents take: cold, one after the other and in flight; and warm.

1. Take the shard files of an index folder (`segments/*/records`), or write a file of random blocks.
2. In each repetition pick documents at random, and read the very same bytes in these ways, in random order, with the page
   cache emptied before each (`posix_fadvise(DONTNEED)`; as root also /proc/sys/vm/drop_caches with --drop-caches):
   - `preadv` and `O_DIRECT`: a bare loop of one read a document, nothing checked, through the page cache and past it;
   - `one by one`: a `BlockStore.fetch_ranges` a document;
   - `python`, `threads`, `io_uring`: one `fetch_ranges` for all, by each engine that there is;
   - `rounds`: as a search does it, all prefetched that may be, then rounds of 64 fetched; the hit rate is printed;
   - `fio QD64`: what fio needs for random reads of the same lengths, if it is installed (also 1 and 8 in flight).
   A store begins with an empty cache, and its engine with a read that is not counted. Every block is checked.
3. Warm: a round of 64 documents from a cache that holds the first --warm-mb of the files, and the same bytes sliced out of
   an array in memory.
4. Print percentiles over the repetitions, and the ratios of the medians.

    python -m benchmarks.cold_reads --scratch /data/scratch            # synthetic, 1.5 GB, deleted afterwards
    python -m benchmarks.cold_reads --index wiki.colindex --drop-caches
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from benchmarks.fio import fio_seconds, has_fio
from colindex.storage.blocks import BlockStore, FetchCounters, SegmentBlocks, ShardBlocks, engines

__all__ = ["main"]

BLOCK = 4096
ROUND = 64
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents of one repetition."""

    starts: Int64s
    """First byte in the address space of all files, [documents]."""
    ends: Int64s
    """The byte after the last, [documents]."""
    places: tuple[tuple[int, int], ...]
    """Number of the file, and first byte in it."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The files of a benchmark."""

    segment: SegmentBlocks
    buffered: tuple[int, ...]
    """A descriptor for each file."""
    direct: tuple[int, ...]
    """A descriptor for each file, past the page cache."""

    @property
    def blocks(self) -> Int64s:
        """Whole blocks of each file."""
        return np.array([shard.blocks for shard in self.segment.shards])

    def pick(self, rng: np.random.Generator, documents: int, size: int) -> Documents:
        """Documents of `size` bytes at random places."""
        blocks = self.blocks
        file = rng.choice(len(blocks), documents, p=blocks / blocks.sum())
        local = (rng.random(documents) * (blocks[file] * BLOCK - size)).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(blocks)[:-1]])[file] * BLOCK + local
        return Documents(starts, starts + size, tuple(zip(file.tolist(), local.tolist(), strict=True)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its table to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, help="index folder whose record shards are read")
    parser.add_argument("--scratch", type=Path, help="folder for the synthetic file when there is no --index")
    parser.add_argument("--file-mb", type=int, default=1536, help="size of the synthetic file")
    parser.add_argument("--documents", type=int, default=256, help="documents read in each repetition")
    parser.add_argument("--bytes", type=int, default=9000, help="bytes of a document")
    parser.add_argument("--cache-mb", type=int, default=64, help="cache of the cold stores")
    parser.add_argument("--warm-mb", type=int, default=256, help="how much of the files the warm cache holds")
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--drop-caches", action="store_true", help="also empty the caches of the whole system (root)")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        if options.index:
            paths = _record_shards(options.index)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=options.scratch))
            paths = [_write_random(Path(folder) / "random.bin", options.file_mb)]
        reader = _open(paths, stack)
        cold, counters = _measure_cold(reader, options)
        warm = _measure_warm(reader, options)
    _report(cold, warm, counters, options.format)
    return 0


def _record_shards(index: Path) -> list[Path]:
    paths = sorted(path for path in index.glob("segments/*/records/c/**/*") if path.is_file())
    if not paths:
        raise SystemExit(f"{index}: expected shard files in segments/*/records/c, found none")
    return paths


def _write_random(path: Path, megabytes: int) -> Path:
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(rng.bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    return path


def _open(paths: Sequence[Path], stack: ExitStack) -> Reader:
    """Open the whole blocks of the files; their checksums are computed here, whatever the index says."""
    shards, checksums, buffered, direct = [], [], [], []
    for path in paths:
        blocks = path.stat().st_size // BLOCK
        if blocks:
            shards.append(ShardBlocks(path, blocks, blocks * BLOCK))
            with path.open("rb") as file:
                checksums += [xxhash.xxh3_64_intdigest(file.read(BLOCK)) & 0xFFFFFFFF for _ in range(blocks)]
            buffered.append(os.open(path, os.O_RDONLY))
            direct.append(os.open(path, os.O_RDONLY | os.O_DIRECT))
            os.posix_fadvise(buffered[-1], 0, 0, os.POSIX_FADV_RANDOM)
    for descriptor in buffered + direct:
        stack.callback(os.close, descriptor)
    segment = SegmentBlocks(tuple(shards), np.array(checksums, dtype=np.uint32))
    return Reader(segment, tuple(buffered), tuple(direct))


class _Ways:
    """The ways to read documents; each gives back its seconds."""

    def __init__(self, reader: Reader, options: argparse.Namespace) -> None:
        self.reader, self.options = reader, options
        self.counters = FetchCounters()
        """Of the stores of `rounds`."""
        self._page = mmap.mmap(-1, options.bytes + 2 * BLOCK)

    def by_name(self) -> dict[str, Callable[[Documents], float]]:
        """All that there are here."""
        best, everything = engines()[0], self.options.documents
        ways: dict[str, Callable[[Documents], float]] = {"preadv": self.preadv, "O_DIRECT": self.direct}
        ways["one by one"] = partial(self.stored, engine=best, fetched=1)
        ways |= {engine: partial(self.stored, engine=engine, fetched=everything) for engine in reversed(engines())}
        ways["rounds"] = partial(self.stored, engine=best, fetched=ROUND, ahead=True)
        ways |= {f"fio QD{depth}": partial(self.fio, depth=depth) for depth in (1, 8, 64) if has_fio()}
        return ways

    def preadv(self, documents: Documents) -> float:
        size, descriptors = self.options.bytes, self.reader.buffered
        return _time(lambda: [os.preadv(descriptors[file], [bytearray(size)], at) for file, at in documents.places])

    def direct(self, documents: Documents) -> float:
        view, jobs = memoryview(self._page), []
        for file, at in documents.places:
            first = at // BLOCK * BLOCK
            whole = -(-(at + self.options.bytes) // BLOCK) * BLOCK - first
            jobs.append((self.reader.direct[file], [view[:whole]], first))
        return _time(lambda: [os.preadv(*job) for job in jobs])

    def stored(self, documents: Documents, engine: str, fetched: int, ahead: bool = False) -> float:
        starts, ends = documents.starts, documents.ends

        def read() -> None:
            if ahead:
                store.prefetch_ranges(starts, ends)
            for begin in range(0, len(starts), fetched):
                store.fetch_ranges(starts[begin : begin + fetched], ends[begin : begin + fetched])

        with BlockStore([self.reader.segment], self.options.cache_mb << 20, engine) as store:
            store.fetch(np.zeros(1, np.int64))
            seconds = _time(read)
            if ahead:
                self.counters += replace(store.counters, misses=store.counters.misses - 1)
        return seconds

    def fio(self, documents: Documents, depth: int) -> float:
        blocks = (documents.ends - 1) // BLOCK - documents.starts // BLOCK + 1
        return fio_seconds([shard.path for shard in self.reader.segment.shards], blocks, depth)


def _measure_cold(reader: Reader, options: argparse.Namespace) -> tuple[dict[str, list[float]], FetchCounters]:
    """Seconds of each repetition by way, and what the stores of `rounds` counted."""
    rng = np.random.default_rng(1)
    measured = _Ways(reader, options)
    ways = measured.by_name()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.repetitions):
        documents = reader.pick(rng, options.documents, options.bytes)
        for way in rng.permutation(list(ways)).tolist():
            _empty_page_cache(reader, options.drop_caches)
            seconds[way].append(ways[way](documents))
    return seconds, measured.counters


def _measure_warm(reader: Reader, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each round of documents from a cache that holds them, and from memory."""
    rng = np.random.default_rng(2)
    limit = min(int(reader.blocks.sum()), options.warm_mb << 8)
    seconds: dict[str, list[float]] = {"warm": [], "memory": []}
    with BlockStore([reader.segment], (limit + (16 << 8)) * (BLOCK + 64)) as store:
        memory = np.concatenate(
            [store.fetch(np.arange(first, min(first + 256, limit)))[0].reshape(-1) for first in range(0, limit, 256)]
        )
        for _ in range(options.repetitions * 20):
            starts = (rng.random(ROUND) * (limit * BLOCK - options.bytes)).astype(np.int64)
            ends = starts + options.bytes
            pairs = list(zip(starts.tolist(), ends.tolist(), strict=True))

            def sliced(pairs: list[tuple[int, int]] = pairs) -> None:
                np.concatenate([memory[begin:end] for begin, end in pairs])

            def fetched(starts: Int64s = starts, ends: Int64s = ends) -> None:
                assert store.fetch_ranges(starts, ends)[1].misses == 0

            for way in rng.permutation(["warm", "memory"]).tolist():
                seconds[way].append(_time(fetched if way == "warm" else sliced))
    return seconds


def _empty_page_cache(reader: Reader, everything: bool) -> None:
    for descriptor in reader.buffered:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    if everything:
        Path("/proc/sys/vm/drop_caches").write_text("3")


def _time(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _report(cold: dict[str, list[float]], warm: dict[str, list[float]], counters: FetchCounters, form: str) -> None:
    best = engines()[0]
    rows = {**cold, **warm}
    p10, p50, p95 = ({way: float(np.percentile(values, q)) * 1e3 for way, values in rows.items()} for q in (10, 50, 95))
    ratios = {way: p50[way] / p50["memory" if way in warm else best] for way in rows}
    hit_rate = counters.prefetch_hits / max(1, counters.misses)
    if form == "json":
        figures = {"p10_ms": p10, "p50_ms": p50, "p95_ms": p95, "ratio": ratios, "prefetch_hit_rate": hit_rate}
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    sys.stdout.write(f"{'way':12}{'p10 ms':>10}{'p50 ms':>10}{'p95 ms':>10}{'x ' + best + ' / memory':>22}\n")
    for way in rows:
        sys.stdout.write(f"{way:12}{p10[way]:10.3f}{p50[way]:10.3f}{p95[way]:10.3f}{ratios[way]:22.2f}\n")
    sys.stdout.write(f"prefetch hit rate of rounds: {hit_rate:.3f}\n")


if __name__ == "__main__":
    raise SystemExit(main())
