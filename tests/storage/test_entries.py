"""Short entries, read in one native call: the same payloads, and the same errors, as read one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.storage import entries
from colindex.storage.entries import EntryReader, EntryWriter
from colindex.storage.errors import CorruptIndexError
from tests.storage.bodies import needs_native

SHORT = 20


def written(folder: Path, payloads: list[bytes], short: int = SHORT) -> EntryReader:
    writer = EntryWriter(folder)
    for payload in payloads:
        writer.append(payload)
    writer.finish()
    return EntryReader(folder, len(payloads), short=short)


@pytest.fixture
def no_reading_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("read one by one")

    monkeypatch.setattr(entries, "opened", fail)


@given(st.lists(st.binary(max_size=2 * SHORT), min_size=1, max_size=8), st.data())
def test_entries_come_back_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    reader = written(tmp_path_factory.mktemp("entries"), payloads)  # longer ones than promised too
    numbers = data.draw(st.lists(st.integers(0, len(payloads) - 1), max_size=12))
    assert reader.read_many(numbers) == [payloads[number] for number in numbers]


@needs_native
@pytest.mark.usefixtures("no_reading_one_by_one")
def test_short_entries_take_one_call(tmp_path: Path) -> None:
    payloads = [b"", b"a", b"b" * SHORT]
    reader = written(tmp_path, payloads)
    assert reader.read_many([2, 0, 1, 2]) == [payloads[2], payloads[0], payloads[1], payloads[2]]
    with pytest.raises(IndexError):
        reader.read(3)


@needs_native
@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-5], lambda b: b"", lambda b: b[:5] + bytes([b[5] ^ 1]) + b[6:]],
    ids=["cut short", "empty", "a flipped bit"],
)
@pytest.mark.parametrize("part", ["bytes", "offsets"])
def test_damage_is_said_as_it_is_without_the_native_call(
    tmp_path: Path, part: str, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = written(tmp_path, [b"one", b"two"])
    file = tmp_path / part / "c" / "0"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CorruptIndexError) as native:
        reader.read_many([0, 1])
    monkeypatch.setattr(reader, "_native", None)
    with pytest.raises(CorruptIndexError) as one_by_one:
        reader.read_many([0, 1])
    assert str(native.value) == str(one_by_one.value)


@pytest.mark.parametrize("bounds", [[8, 8, 2**63], [0, 2**64 - 1, 2**64 - 1], [5, 2, 9]])
def test_bounds_that_no_writer_wrote(tmp_path: Path, bounds: list[int]) -> None:
    reader = written(tmp_path, [b"one", b"two"])
    (tmp_path / "offsets" / "c" / "0").write_bytes(np.array(bounds, "<u8").tobytes())
    with pytest.raises(CorruptIndexError):
        reader.read_many([0, 1])


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    reader = written(tmp_path, [b"one"])
    (tmp_path / "bytes" / "c" / "0").unlink()
    with pytest.raises(CorruptIndexError, match="No such file"):
        reader.read(0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing tells the open files here")
def test_files_stay_open_as_long_as_the_reader(tmp_path: Path) -> None:
    reader, before = written(tmp_path, [b"one", b"two"]), descriptors()
    for _ in range(3):
        reader.read_many([0, 1])
        assert descriptors() == before + 2
    del reader
    assert descriptors() == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing tells the open files here")
def test_where_many_files_are_open_they_do_not_stay(tmp_path: Path) -> None:
    reader = written(tmp_path, [b"one", b"two"])
    others = [os.open(tmp_path, os.O_RDONLY) for _ in range(300)]
    try:
        before = descriptors()
        assert reader.read_many([1]) == [b"two"]
        assert descriptors() == before
    finally:
        for each in others:
            os.close(each)


def test_threads_may_share_a_reader(tmp_path: Path) -> None:
    payloads = [b"%d" % number for number in range(100)]
    reader = written(tmp_path, payloads)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda first: reader.read_many(range(first, 100)), range(100)))
    assert found == [payloads[first:] for first in range(100)]


def test_a_file_that_was_missing_is_read_once_it_is_there(tmp_path: Path) -> None:
    reader, file = written(tmp_path, [b"one"]), tmp_path / "bytes" / "c" / "0"
    file.rename(tmp_path / "aside")
    with pytest.raises(CorruptIndexError):
        reader.read(0)
    (tmp_path / "aside").rename(file)
    assert reader.read(0) == b"one"


def long_ids(seed: int) -> list[bytes]:
    """Ids of 1 to 511 bytes, 1 MiB of them: pages of 2 KiB begin within ids, and a thread keeps half of the pages at most."""
    lengths = np.random.default_rng(seed).integers(1, 512, 4096)
    return [bytes([65 + seed]) + b"%d." % number * (length // 4) for number, length in enumerate(lengths.tolist())]


def in_any_order(rng: np.random.Generator) -> list[int]:
    """Far from each other, and side by side."""
    at = rng.integers(4096 - 10)
    return [*rng.integers(4096, size=20).tolist(), *range(at, at + 10)]


def test_pages_that_are_kept_are_those_of_the_file_asked(tmp_path: Path) -> None:
    payloads = [long_ids(seed) for seed in range(3)]
    readers = [written(tmp_path / str(seed), each, short=4096) for seed, each in enumerate(payloads)]

    def read_some(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for turn in range(150):
            numbers, of = in_any_order(rng), turn % 3
            assert readers[of].read_many(numbers) == [payloads[of][number] for number in numbers]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(read_some, range(6)))


def test_pages_of_a_file_that_is_no_more_are_not_another_s(tmp_path: Path) -> None:
    """The next reader opens what lies at the same path, most likely as the same descriptor."""
    for seed in range(3):
        payloads = long_ids(seed)
        reader = written(tmp_path / "entries", payloads, short=4096)
        assert reader.read_many(range(4096)) == payloads
        del reader
        shutil.rmtree(tmp_path / "entries")


@needs_native
def test_what_is_kept_is_found_again_without_the_file(tmp_path: Path) -> None:
    """And so without waiting; what is not kept is not."""
    payloads = long_ids(0)
    reader = written(tmp_path / "entries", payloads, short=4096)
    assert reader.read_many([7, 4000]) == [payloads[7], payloads[4000]]
    for file in (tmp_path / "entries").rglob("0"):
        os.truncate(file, 0)
    assert reader.read_many([4000, 7]) == [payloads[4000], payloads[7]]
    with pytest.raises(CorruptIndexError):
        reader.read_many([7, 2000])
