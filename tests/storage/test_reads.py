"""Plans are values, so most of this needs no disk; the rest reads small files, whole, torn and refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from colindex.storage import reads
from colindex.storage.errors import CorruptIndexError, StorageError
from colindex.storage.reads import BLOCK_BYTES, assemble, documents_to_blocks, open_shards, plan_reads, read_ranges

SPACE = 40  # blocks


def as_int64(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int64)


documents = st.lists(
    st.tuples(st.integers(0, SPACE * BLOCK_BYTES), st.integers(0, 3 * BLOCK_BYTES)).map(
        lambda pair: (pair[0], min(pair[0] + pair[1], SPACE * BLOCK_BYTES))
    ),
    max_size=12,
)


@given(documents)
@example([(0, 4096), (4095, 4097), (4096, 8192)])
@example([(5, 5), (0, SPACE * BLOCK_BYTES)])
@settings(max_examples=200, deadline=None)
def test_assembled_documents_are_the_bytes_of_their_ranges(ranges: list[tuple[int, int]]) -> None:
    space = np.random.default_rng(0).integers(0, 256, (SPACE, BLOCK_BYTES), dtype=np.uint8)
    plan = documents_to_blocks(as_int64([a for a, _ in ranges]), as_int64([b for _, b in ranges]))
    flat = space.reshape(-1)
    expected = np.concatenate([np.zeros(0, np.uint8), *(flat[a:b] for a, b in ranges)])
    assert (assemble(plan, space[plan.blocks]) == expected).all()
    assert plan.size == len(expected)


@given(documents)
@settings(max_examples=200, deadline=None)
def test_blocks_come_once_each_in_the_order_of_first_need(ranges: list[tuple[int, int]]) -> None:
    expected: list[int] = []
    for begin, end in ranges:
        for block in range(begin // BLOCK_BYTES, -(-end // BLOCK_BYTES)) if end > begin else ():
            if block not in expected:
                expected.append(block)
    plan = documents_to_blocks(as_int64([a for a, _ in ranges]), as_int64([b for _, b in ranges]))
    assert plan.blocks.tolist() == expected


def test_a_document_in_fresh_blocks_is_one_piece() -> None:
    plan = documents_to_blocks(as_int64([100, 50_000]), as_int64([9_100, 59_000]))
    assert plan.lengths.tolist() == [9_000, 9_000]
    assert plan.targets.tolist() == [0, 9_000]


@st.composite
def wanted(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = draw(st.lists(st.integers(1, 300), min_size=1, max_size=5))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    runs = draw(st.lists(st.tuples(st.integers(0, int(starts[-1]) - 1), st.integers(1, 300)), max_size=6))
    seen: dict[int, None] = {}
    for begin, length in runs:
        seen |= dict.fromkeys(range(begin, min(begin + length, int(starts[-1]))))
    blocks = as_int64(list(seen))
    gaps = draw(
        st.lists(st.integers(1, 3), min_size=len(blocks), max_size=len(blocks)) if len(blocks) < 20 else st.just([1])
    )
    return blocks, np.cumsum(np.resize(as_int64(gaps or [1]), len(blocks))) - 1, starts


@given(wanted())
@settings(max_examples=200, deadline=None)
def test_a_plan_covers_each_block_once_inside_one_file(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    blocks, rows, starts = case
    plan = plan_reads(blocks, rows, starts)
    covered: list[tuple[int, int]] = []
    for file, offset, length, row in zip(plan.files, plan.offsets, plan.lengths, plan.rows, strict=True):
        assert 0 < length <= reads.MAX_RANGE_BLOCKS * BLOCK_BYTES
        assert offset + length <= (starts[file + 1] - starts[file]) * BLOCK_BYTES
        covered += [(int(starts[file] + offset // BLOCK_BYTES) + i, int(row) + i) for i in range(length // BLOCK_BYTES)]
    assert covered == list(zip(blocks.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize(
    ("blocks", "rows", "ranges"),
    [
        ([], [], 0),
        ([3, 4, 5], [0, 1, 2], 1),
        ([3, 4, 5], [0, 2, 3], 2),  # a hit between them: the buffer is not contiguous
        ([5, 4, 3], [0, 1, 2], 3),
        ([8, 9, 10, 11], [0, 1, 2, 3], 2),  # 10 opens the next file
        (list(range(20, 20 + 70)), list(range(70)), 3),  # longer than one WILLNEED
    ],
)
def test_neighbours_become_one_range(blocks: list[int], rows: list[int], ranges: int) -> None:
    plan = plan_reads(as_int64(blocks), as_int64(rows), as_int64([0, 10, 20, 1000]))
    assert len(plan.files) == ranges


def test_part_of_a_plan_is_a_plan() -> None:
    plan = plan_reads(as_int64([1, 5, 12]), as_int64([0, 1, 2]), as_int64([0, 10, 20]))
    part = plan.part(1, 3)
    assert part.files.tolist() == [0, 1]
    assert part.offsets.tolist() == [5 * BLOCK_BYTES, 2 * BLOCK_BYTES]
    assert part.rows.tolist() == [1, 2]


def write(path: Path, size: int) -> bytes:
    data = np.random.default_rng(size).bytes(size)
    path.write_bytes(data)
    return data


def test_rows_hold_the_files_bytes_and_zeros_after_the_data(tmp_path: Path) -> None:
    data = write(tmp_path / "a", 10_000)
    shards = open_shards([tmp_path / "a"], [9_000])  # the file goes on after its data
    rows = np.full((3, BLOCK_BYTES), 7, dtype=np.uint8)
    total = read_ranges(plan_reads(as_int64([0, 1, 2]), as_int64([0, 1, 2]), as_int64([0, 3])), shards, rows)
    assert rows.tobytes() == data[:9_000] + bytes(3 * BLOCK_BYTES - 9_000)
    assert total == 9_000
    reads.close_shards(shards)


def test_a_read_cut_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "a", 2 * BLOCK_BYTES)
    shards = open_shards([tmp_path / "a"], [2 * BLOCK_BYTES])
    whole = os.preadv

    def a_few_bytes(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return whole(descriptor, [buffers[0][:1000]], offset)

    monkeypatch.setattr(os, "preadv", a_few_bytes)
    rows = np.zeros((2, BLOCK_BYTES), dtype=np.uint8)
    assert (
        read_ranges(plan_reads(as_int64([0, 1]), as_int64([0, 1]), as_int64([0, 2])), shards, rows) == 2 * BLOCK_BYTES
    )
    assert rows.tobytes() == data
    reads.close_shards(shards)


def test_a_failing_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", BLOCK_BYTES)
    shards = open_shards([tmp_path / "a"], [BLOCK_BYTES])

    def fail(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    plan = plan_reads(as_int64([0]), as_int64([0]), as_int64([0, 1]))
    with pytest.raises(
        StorageError, match=r"a: expected to read 4096 bytes at byte 0, got Input/output error \(errno 5\)"
    ):
        read_ranges(plan, shards, np.zeros((1, BLOCK_BYTES), dtype=np.uint8))
    reads.close_shards(shards)


def test_a_file_torn_after_opening_is_corrupt_not_a_crash(tmp_path: Path) -> None:
    write(tmp_path / "a", 3 * BLOCK_BYTES)
    shards = open_shards([tmp_path / "a"], [3 * BLOCK_BYTES])
    os.truncate(tmp_path / "a", 5000)
    plan = plan_reads(as_int64([1]), as_int64([0]), as_int64([0, 3]))
    with pytest.raises(CorruptIndexError, match="a: expected 4096 bytes at byte 4096, the file ends at byte 5000"):
        read_ranges(plan, shards, np.zeros((1, BLOCK_BYTES), dtype=np.uint8))
    reads.close_shards(shards)


def test_missing_and_short_files_are_refused_at_opening_and_nothing_stays_open(tmp_path: Path) -> None:
    write(tmp_path / "whole", BLOCK_BYTES)
    write(tmp_path / "short", 100)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CorruptIndexError, match=r"gone: expected a shard of 4096 bytes, found no file"):
        open_shards([tmp_path / "whole", tmp_path / "gone"], [BLOCK_BYTES, BLOCK_BYTES])
    with pytest.raises(CorruptIndexError, match=r"short: expected at least 4096 bytes, the file ends at byte 100"):
        open_shards([tmp_path / "whole", tmp_path / "short"], [BLOCK_BYTES, BLOCK_BYTES])
    assert len(os.listdir("/proc/self/fd")) == before


def test_too_many_open_files_names_the_way_out_and_closes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", 10)
    write(tmp_path / "b", 10)
    before = len(os.listdir("/proc/self/fd"))
    whole = os.open

    def one_only(path: Path, flags: int) -> int:
        if path.name == "b":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return whole(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", one_only)
        with pytest.raises(StorageError, match=r"b: expected to open the shard, got Too many open files .*`ulimit -n`"):
            open_shards([tmp_path / "a", tmp_path / "b"], [10, 10])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    shards = open_shards([tmp_path / "folder"], [1])
    plan = plan_reads(as_int64([0]), as_int64([0]), as_int64([0, 1]))
    with pytest.raises(StorageError, match=r"folder: .*Is a directory"):
        read_ranges(plan, shards, np.zeros((1, BLOCK_BYTES), dtype=np.uint8))
    reads.close_shards(shards)


def test_without_fadvise_everything_still_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "_HAS_FADVISE", False)
    data = write(tmp_path / "a", BLOCK_BYTES)
    shards = open_shards([tmp_path / "a"], [BLOCK_BYTES])
    plan = plan_reads(as_int64([0]), as_int64([0]), as_int64([0, 1]))
    rows = np.zeros((1, BLOCK_BYTES), dtype=np.uint8)
    reads.announce(plan, shards)
    read_ranges(plan, shards, rows)
    reads.forget(plan, shards)
    assert rows.tobytes() == data
    reads.close_shards(shards)


def test_every_range_is_announced_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", 10 * BLOCK_BYTES)
    shards = open_shards([tmp_path / "a"], [10 * BLOCK_BYTES])
    advised: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, offset, length, advice: advised.append((offset, length, advice))
    )
    plan = plan_reads(as_int64([7, 8, 2]), as_int64([0, 1, 2]), as_int64([0, 10]))
    reads.announce(plan, shards)
    reads.forget(plan, shards)
    ranges = [(7 * BLOCK_BYTES, 2 * BLOCK_BYTES), (2 * BLOCK_BYTES, BLOCK_BYTES)]
    assert advised == [(*r, os.POSIX_FADV_WILLNEED) for r in ranges] + [(*r, os.POSIX_FADV_DONTNEED) for r in ranges]
    reads.close_shards(shards)
