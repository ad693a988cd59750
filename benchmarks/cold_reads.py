"""How long cold reads of a query's documents take: one after the other, and all in flight.

1. Take the shard files of an index folder (`segments/*/records`), or write a file of random blocks.
2. In each repetition pick documents at random, and read the very same bytes in four ways, in random order, with the page
   cache emptied before each (`posix_fadvise(DONTNEED)`; as root also /proc/sys/vm/drop_caches with --drop-caches):
   `preadv`, a bare loop of one `preadv` a document, nothing checked; `one at a time`, one `BlockStore.fetch_ranges` a
   document; `announced not`, one `BlockStore.fetch_ranges` for all, but each read starts when the one before is done, all
   else being equal; `in flight`, the same as it is. The store has no cache and checks every block.
3. Print percentiles over the repetitions, and the ratios of the medians.

    python -m benchmarks.cold_reads --scratch /data/scratch            # synthetic, 1.5 GB, deleted afterwards
    python -m benchmarks.cold_reads --index wiki.colindex --drop-caches
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import xxhash

from colindex.storage.blocks import BlockStore, SegmentBlocks, ShardBlocks

__all__ = ["main"]

BLOCK = 4096
WAYS = ("preadv", "one at a time", "announced not", "in flight")


@dataclass(frozen=True, slots=True)
class Reader:
    """The files of a benchmark, and one store over all of them."""

    store: BlockStore
    files: tuple[tuple[int, int], ...]
    """File descriptor and whole blocks of each file."""

    def first_bytes(self) -> npt.NDArray[np.int64]:
        """Address of the first byte of each file."""
        return np.concatenate([[0], np.cumsum([blocks for _, blocks in self.files])[:-1]]) * BLOCK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its table to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, help="index folder whose record shards are read")
    parser.add_argument("--scratch", type=Path, help="folder for the synthetic file when there is no --index")
    parser.add_argument("--file-mb", type=int, default=1536, help="size of the synthetic file")
    parser.add_argument("--documents", type=int, default=256, help="documents read in each repetition")
    parser.add_argument("--bytes", type=int, default=9000, help="bytes of a document")
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
        seconds = _measure(reader, options)
    _report(seconds, options.format)
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
    shards, checksums, files = [], [], []
    for path in paths:
        blocks = path.stat().st_size // BLOCK
        shards.append(ShardBlocks(path, blocks, blocks * BLOCK))
        with path.open("rb") as file:
            checksums += [xxhash.xxh3_64_intdigest(file.read(BLOCK)) & 0xFFFFFFFF for _ in range(blocks)]
        descriptor = os.open(path, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        files.append((descriptor, blocks))
    segment = SegmentBlocks(tuple(shards), np.array(checksums, dtype=np.uint32))
    return Reader(stack.enter_context(BlockStore([segment], 0)), tuple(files))


def _measure(reader: Reader, options: argparse.Namespace) -> dict[str, list[float]]:
    rng = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    blocks = np.array([count for _, count in reader.files])
    for _ in range(options.repetitions):
        file = rng.choice(len(blocks), options.documents, p=blocks / blocks.sum())
        local = (rng.random(options.documents) * (blocks[file] * BLOCK - options.bytes)).astype(np.int64)
        starts = reader.first_bytes()[file] + local
        ends = starts + options.bytes
        descriptors = [reader.files[number][0] for number in file]

        def bare(places: Sequence[tuple[int, int]] = tuple(zip(descriptors, local.tolist(), strict=True))) -> None:
            for descriptor, offset in places:
                os.preadv(descriptor, [bytearray(options.bytes)], offset)

        def one_at_a_time(starts: npt.NDArray[np.int64] = starts, ends: npt.NDArray[np.int64] = ends) -> None:
            for document in range(len(starts)):
                reader.store.fetch_ranges(starts[document : document + 1], ends[document : document + 1])

        def in_flight(starts: npt.NDArray[np.int64] = starts, ends: npt.NDArray[np.int64] = ends) -> None:
            reader.store.fetch_ranges(starts, ends)

        def announced_not(in_flight: Callable[[], None] = in_flight) -> None:
            with patch("colindex.storage.blocks.announce", lambda plan, shards: None):
                in_flight()

        for number in rng.permutation(len(WAYS)):
            _empty_page_cache(reader, options.drop_caches)
            seconds[WAYS[number]].append(_time((bare, one_at_a_time, announced_not, in_flight)[number]))
    return seconds


def _empty_page_cache(reader: Reader, everything: bool) -> None:
    for descriptor, _ in reader.files:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    if everything:
        Path("/proc/sys/vm/drop_caches").write_text("3")


def _time(action: Callable[[], None]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _report(seconds: dict[str, list[float]], form: str) -> None:
    p50, p95 = ({way: float(np.percentile(values, q)) * 1e3 for way, values in seconds.items()} for q in (50, 95))
    ratios = {way: p50[way] / p50["in flight"] for way in WAYS}
    if form == "json":
        sys.stdout.write(json.dumps({"p50_ms": p50, "p95_ms": p95, "ratio": ratios}) + "\n")
        return
    sys.stdout.write(f"{'way':16}{'p50 ms':>10}{'p95 ms':>10}{'x in flight':>13}\n")
    for way in WAYS:
        sys.stdout.write(f"{way:16}{p50[way]:10.2f}{p95[way]:10.2f}{ratios[way]:13.2f}\n")


if __name__ == "__main__":
    raise SystemExit(main())
