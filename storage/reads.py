"""From byte ranges of documents to few reads, all in flight together.

1. **Documents to blocks** (`documents_to_blocks`): each document is a byte range of the block address space. The blocks that
   the documents touch are listed once each, in the order in which they are first needed, with the pieces that put the
   documents together again from those blocks.
2. **Plan** (`plan_reads`): missing blocks that lie side by side in one file and in the caller's buffer become one range. The
   plan is a value: it knows files by number and opens nothing.
3. **Announce** (`announce`): `posix_fadvise(WILLNEED)` on every range, in order. Each call starts its read and returns, so that
   the disk has all of them at once; nothing waits.
4. **Read** (`read_ranges`): `preadv` of each range straight into the caller's rows, in the same order; by then it is on its way
   or there.
5. **Forget** (`forget`): `posix_fadvise(DONTNEED)`. The block cache is ours and explicit, the page cache must not hold the
   index twice.

This is how reads are in flight together without native code; with it they are too, see `native_fetcher`, and only the opening
and the errors are these. Files are never mapped: a torn file is an error, not a SIGBUS.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt

from colindex.storage.errors import CorruptIndexError, StorageError

__all__ = [
    "BLOCK_BYTES",
    "DocumentPlan",
    "OpenShard",
    "ReadPlan",
    "announce",
    "assemble",
    "close_shards",
    "documents_to_blocks",
    "forget",
    "open_shards",
    "plan_reads",
    "raise_ended_early",
    "raise_refused",
    "raise_wrong_checksum",
    "read_ranges",
]

BLOCK_BYTES: Final = 4096
"""Bytes of a block: the unit of caching, of reading and of checksums."""

MAX_RANGE_BLOCKS: Final = 32
"""Longer ranges are cut: Linux silently truncates one WILLNEED to the readahead window, which is 128 KiB unless set."""

_HAS_FADVISE: Final = hasattr(os, "posix_fadvise")

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DocumentPlan:
    """The blocks that some documents need, and how the documents lie in them."""

    blocks: Int64s
    """Global block numbers, each once, in the order in which the documents first need them, [blocks]."""
    sources: Int64s
    """First byte of each piece in the blocks laid end to end, [pieces]."""
    targets: Int64s
    """First byte of each piece in the documents laid end to end, [pieces]."""
    lengths: Int64s
    """Bytes of each piece, [pieces]."""
    size: int
    """Bytes of all documents together."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Ranges to read, in the order to issue them. A row is one block of the caller's buffer."""

    files: Int64s
    """Number of the file of each range, [ranges]."""
    offsets: Int64s
    """First byte of each range in its file, a multiple of 4096, [ranges]."""
    lengths: Int64s
    """Bytes of each range, a multiple of 4096, [ranges]."""
    rows: Int64s
    """First row of each range in the caller's buffer; the others follow it, [ranges]."""

    def part(self, begin: int, end: int) -> ReadPlan:
        """Ranges [begin, end) alone."""
        return ReadPlan(self.files[begin:end], self.offsets[begin:end], self.lengths[begin:end], self.rows[begin:end])


@dataclass(frozen=True, slots=True)
class OpenShard:
    """One shard file, open for reading."""

    path: Path
    """Where it is, for messages."""
    descriptor: int
    """Its file descriptor."""
    data_bytes: int
    """Bytes of blocks at its start; what follows is never served."""
    direct: bool = False
    """Whether reads go past the page cache (O_DIRECT), into page-aligned memory."""


def documents_to_blocks(starts: Int64s, ends: Int64s) -> DocumentPlan:
    """Plan the blocks of documents at bytes [starts, ends), both int64 [documents]. A document may be empty."""
    lengths = ends - starts
    first = starts // BLOCK_BYTES
    counts = np.where(lengths > 0, (ends - 1) // BLOCK_BYTES - first + 1, 0)
    needs = int(counts.sum())
    document = np.repeat(np.arange(len(starts)), counts)  # [needs]
    rank = np.arange(needs) - np.repeat(np.cumsum(counts) - counts, counts)  # place of the need in its document
    needed = first[document] + rank
    unique, where, inverse = np.unique(needed, return_index=True, return_inverse=True)
    order = np.argsort(where)
    row_of = np.empty(len(unique), dtype=np.int64)
    row_of[order] = np.arange(len(unique))
    rows = row_of[inverse]

    # One piece for each run of needs of one document whose rows follow one another.
    opens = np.ones(needs, dtype=bool)
    opens[1:] = (document[1:] != document[:-1]) | (rows[1:] != rows[:-1] + 1)
    heads = np.flatnonzero(opens)
    tails = np.append(heads, needs)[1:] - 1
    begin = np.maximum(needed[heads] * BLOCK_BYTES, starts[document[heads]])
    end = np.minimum((needed[tails] + 1) * BLOCK_BYTES, ends[document[heads]])
    base = np.cumsum(lengths) - lengths  # [documents] first byte of each document in the answer
    return DocumentPlan(
        blocks=unique[order],
        sources=rows[heads] * BLOCK_BYTES + begin - needed[heads] * BLOCK_BYTES,
        targets=base[document[heads]] + begin - starts[document[heads]],
        lengths=end - begin,
        size=int(lengths.sum()),
    )


def assemble(plan: DocumentPlan, blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The documents of the plan laid end to end, uint8 [plan.size], from its blocks, uint8 [blocks, 4096]."""
    answer = np.empty(plan.size, dtype=np.uint8)
    if plan.size == 0:
        return answer
    source, target = blocks.reshape(-1).data, answer.data
    pieces = zip(plan.sources.tolist(), plan.targets.tolist(), plan.lengths.tolist(), strict=True)
    for begin, to, length in pieces:
        target[to : to + length] = source[begin : begin + length]
    return answer


def plan_reads(blocks: Int64s, rows: Int64s, shard_starts: Int64s) -> ReadPlan:
    """Plan the reads of `blocks` [n] into `rows` [n] of a buffer.

    `shard_starts`, int64 [files + 1], holds the first global block of each file, ascending, and the total at its end.
    """
    files = np.searchsorted(shard_starts, blocks, side="right") - 1
    opens = np.ones(len(blocks), dtype=bool)
    opens[1:] = (blocks[1:] != blocks[:-1] + 1) | (rows[1:] != rows[:-1] + 1) | (files[1:] != files[:-1])
    heads = np.flatnonzero(opens)
    counts = np.diff(np.append(heads, len(blocks)))
    if len(heads) and int(counts.max()) > MAX_RANGE_BLOCKS:
        run = np.repeat(heads, counts)
        opens |= (np.arange(len(blocks)) - run) % MAX_RANGE_BLOCKS == 0
        heads = np.flatnonzero(opens)
        counts = np.diff(np.append(heads, len(blocks)))
    files = files[heads]
    return ReadPlan(
        files=files,
        offsets=(blocks[heads] - shard_starts[files]) * BLOCK_BYTES,
        lengths=counts * BLOCK_BYTES,
        rows=rows[heads],
    )


def open_shards(paths: Sequence[Path], data_bytes: Sequence[int], direct: bool = False) -> tuple[OpenShard, ...]:
    """Open the files and check that each holds its data; `direct` where the file system has it.

    Raises CorruptIndexError if one is missing or too short, StorageError if the system refuses.
    """
    opened: list[OpenShard] = []
    try:
        for path, size in zip(paths, data_bytes, strict=True):
            opened.append(_open_shard(path, size, direct))
    except StorageError:
        close_shards(opened)
        raise
    return tuple(opened)


def close_shards(shards: Sequence[OpenShard]) -> None:
    """Close the files."""
    for shard in shards:
        os.close(shard.descriptor)


def announce(plan: ReadPlan, shards: Sequence[OpenShard]) -> None:
    """Start the reads of the plan without waiting for any."""
    if _HAS_FADVISE:
        _advise(plan, shards, os.POSIX_FADV_WILLNEED)


def forget(plan: ReadPlan, shards: Sequence[OpenShard]) -> None:
    """Let the page cache drop the ranges of the plan."""
    if _HAS_FADVISE:
        _advise(plan, shards, os.POSIX_FADV_DONTNEED)


def read_ranges(plan: ReadPlan, shards: Sequence[OpenShard], rows: npt.NDArray[np.uint8]) -> int:
    """Read the plan into `rows`, uint8 [rows, 4096], and return the bytes read.

    What a file lacks of its last block is zero. Raises CorruptIndexError if a file ends early, StorageError if a read fails.
    """
    buffer = rows.reshape(-1).data
    total = 0
    ranges = zip(plan.files.tolist(), plan.offsets.tolist(), plan.lengths.tolist(), plan.rows.tolist(), strict=True)
    for file, offset, length, row in ranges:
        shard = shards[file]
        begin = row * BLOCK_BYTES
        wanted = min(length, shard.data_bytes - offset)
        _read_fully(shard, offset, buffer[begin : begin + wanted])
        if wanted < length:
            rows.reshape(-1)[begin + wanted : begin + length] = 0
        total += wanted
    return total


def _advise(plan: ReadPlan, shards: Sequence[OpenShard], advice: int) -> None:
    descriptors = [shard.descriptor for shard in shards]
    for file, offset, length in zip(plan.files.tolist(), plan.offsets.tolist(), plan.lengths.tolist(), strict=True):
        os.posix_fadvise(descriptors[file], offset, length, advice)


def raise_ended_early(shard: OpenShard, offset: int, length: int, end: int) -> NoReturn:
    """A file is shorter than it was."""
    raise CorruptIndexError(
        f"{shard.path}: expected {length} bytes at byte {offset}, the file ends at byte {end}; "
        "restore it or rebuild the index."
    )


def raise_refused(shard: OpenShard, offset: int, length: int, number: int, at: int) -> NoReturn:
    """The system refused to read."""
    raise StorageError(
        f"{shard.path}: expected to read {length} bytes at byte {offset}, got {os.strerror(number)} "
        f"(errno {number}) at byte {at}; check the disk (dmesg), then restore the file or rebuild the index."
    )


def raise_wrong_checksum(shard: OpenShard, offset: int, expected: int, got: int) -> NoReturn:
    """A block is not what was committed."""
    raise CorruptIndexError(
        f"{shard.path}: block at byte {offset}: expected checksum {expected:08x}, "
        f"got {got:08x}; run `colindex verify`, then restore the file or rebuild the index."
    )


def _open_shard(path: Path, data_bytes: int, direct: bool) -> OpenShard:
    try:
        descriptor, direct = _open(path, direct)
    except FileNotFoundError as error:
        message = f"{path}: expected a shard of {data_bytes} bytes, found no file; restore it or rebuild the index."
        raise CorruptIndexError(message) from error
    except OSError as error:
        raise StorageError(
            f"{path}: expected to open the shard, got {error.strerror} (errno {error.errno}); check its permissions, or "
            "raise the limit of open files (`ulimit -n`): every shard of an open index is one."
        ) from error
    size = os.fstat(descriptor).st_size
    if size < data_bytes:
        os.close(descriptor)
        raise CorruptIndexError(
            f"{path}: expected at least {data_bytes} bytes, the file ends at byte {size}; restore it or rebuild the index."
        )
    if _HAS_FADVISE and not direct:
        # Single reads must not drag in a readahead window; WILLNEED reads its own range all the same.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return OpenShard(path, descriptor, data_bytes, direct)


def _open(path: Path, direct: bool) -> tuple[int, bool]:
    """A descriptor, and whether it is direct: not every file system can."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    if direct and hasattr(os, "O_DIRECT"):
        try:
            return os.open(path, flags | os.O_DIRECT), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return os.open(path, flags), False


def _read_fully(shard: OpenShard, offset: int, target: memoryview) -> None:
    """Fill `target` from `offset`. The system may hand over less than asked for: go on from there."""
    done = 0
    while done < len(target):
        try:
            got = os.preadv(shard.descriptor, [target[done:]], offset + done)
        except OSError as error:
            raise_refused(shard, offset, len(target), error.errno or 0, offset + done)
        if got == 0:
            raise_ended_early(shard, offset, len(target), offset + done)
        done += got
