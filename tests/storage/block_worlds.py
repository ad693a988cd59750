"""Shard files with known bytes, to be read through a block store, and ways to harm them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from colindex.storage.blocks import BlockStore, SegmentBlocks, ShardBlocks
from colindex.storage.eviction import SLOT_BYTES, BlockTable
from colindex.storage.reads import BLOCK_BYTES

SLOT = BLOCK_BYTES + SLOT_BYTES


@dataclass(frozen=True, slots=True)
class World:
    """Files and what a store must answer for them."""

    segments: tuple[SegmentBlocks, ...]
    space: np.ndarray
    """Every block of the address space, uint8 [blocks, 4096]."""

    @property
    def paths(self) -> list[Path]:
        return [shard.path for segment in self.segments for shard in segment.shards]


def make_world(folder: Path, shards: tuple[tuple[int, ...], ...] = ((5, 3), (4,), (1, 6)), cut: int = 1000) -> World:
    """One segment for each tuple, one shard for each number of blocks in it; the data of each segment lacks its last `cut` bytes.

    Each file goes on after its data, as a zarr shard does with its index.
    """
    rng = np.random.default_rng(7)
    segments, space = [], []
    for number, counts in enumerate(shards):
        content = rng.integers(0, 256, (sum(counts), BLOCK_BYTES), dtype=np.uint8)
        content.reshape(-1)[len(content.reshape(-1)) - cut :] = 0
        files, first = [], 0
        for shard, count in enumerate(counts):
            path = folder / f"{number}-{shard}"
            size = count * BLOCK_BYTES - (cut if shard == len(counts) - 1 else 0)
            path.write_bytes(content[first : first + count].tobytes()[:size] + b"index of the shard")
            files.append(ShardBlocks(path, count, size))
            first += count
        digests = [xxhash.xxh3_64_intdigest(block.tobytes()) & 0xFFFFFFFF for block in content]
        segments.append(SegmentBlocks(tuple(files), np.array(digests, dtype=np.uint32)))
        space.append(content)
    return World(tuple(segments), np.concatenate(space))


def as_int64(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def table_of(store: BlockStore) -> BlockTable:
    return store._space.table


def arena_of(store: BlockStore) -> np.ndarray:
    return store._space.arena


def fail_reads(store: BlockStore, shard: int) -> None:
    """From now on every read of this file ends with EIO: its descriptor becomes that of an address space without a page 0."""
    bad = os.open("/proc/self/mem", os.O_RDONLY)
    os.dup2(bad, store._space.shards[shard].descriptor)
    os.close(bad)


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
