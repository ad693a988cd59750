"""The durability rules: what is written when, what a failure leaves, and what a reader is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from colindex.storage import directory
from colindex.storage.checksums import BLOCK_BYTES, FileSum, block_checksums, crc32c, entry_check, file_sum
from colindex.storage.directory import (
    NewFile,
    Operations,
    free_bytes,
    fsync_tree,
    read_exactly,
    remove_tree,
    require_space,
    write_file_durably,
    write_new_file,
)
from colindex.storage.errors import CorruptIndexError, DiskSpaceError, StorageError


class Recorder(Operations):
    """Does everything, and remembers in which order."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def create(self, path: Path) -> int:
        self.steps.append(("create", path.name))
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> None:
        self.steps.append(("write", _name(descriptor)))
        super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.steps.append(("fsync", _name(descriptor)))
        super().fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self.steps.append(("replace", target.name))
        super().replace(source, target)


class Full(Operations):
    """A disk without room."""

    def write(self, descriptor: int, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def _name(descriptor: int) -> str:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(directory, "operations", recorder)
    return recorder


def test_a_durable_file_is_synced_before_it_is_named_and_its_folder_after(tmp_path: Path, recorder: Recorder) -> None:
    write_file_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert recorder.steps == [
        ("create", "file.tmp"),
        ("write", "file.tmp"),
        ("fsync", "file.tmp"),
        ("replace", "file"),
        ("fsync", tmp_path.name),
    ]


def test_a_durable_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    write_file_durably(tmp_path / "file", b"old")
    write_file_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file_durably(tmp_path / "file", b"old")
    monkeypatch.setattr(directory, "operations", Full())
    with pytest.raises(DiskSpaceError, match="disk is full"):
        write_file_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_tree_is_synced_files_first_and_folders_from_the_leaves(tmp_path: Path, recorder: Recorder) -> None:
    for name in ("b", "a", "deep/er/c"):
        write_new_file(tmp_path / "tree" / name, b"x")
    recorder.steps.clear()
    fsync_tree(tmp_path / "tree")
    synced = [name for step, name in recorder.steps if step == "fsync"]
    assert synced == ["c", "er", "deep", "a", "b", "tree"]


def test_a_new_file_knows_its_sum_without_being_read(tmp_path: Path) -> None:
    file = NewFile(tmp_path / "deep" / "file")
    for piece in (b"one", bytearray(b""), memoryview(b"two")):
        file.write(piece)
    assert file.close() == file_sum(file.path) == FileSum(6, xxhash.xxh3_128_hexdigest(b"onetwo"))


def test_closing_a_new_file_twice_does_nothing(tmp_path: Path) -> None:
    file = NewFile(tmp_path / "file")
    file.discard()
    assert file.close().bytes == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(_self: Operations, _descriptor: int, _data: memoryview) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Operations, "write", refuse)
    with pytest.raises(DiskSpaceError, match=r"file: the disk is full .* bytes free"):
        write_new_file(tmp_path / "file", b"x")


def test_other_failures_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_new_file(tmp_path / "file", b"x")


def test_room_is_asked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "not" / "there" / "yet")
    assert free > 0
    require_space(tmp_path / "not" / "there", 1, "a small thing")
    with pytest.raises(DiskSpaceError, match=r"the build needs .* bytes, but only .* are free; free .* more") as caught:
        require_space(tmp_path, free * 2 + 1, "the build")
    assert f"{free * 2 + 1:,}" in str(caught.value)
    assert isinstance(caught.value, OSError)


def test_a_tree_is_removed_and_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    write_new_file(tmp_path / "tree" / "deep" / "file", b"x")
    write_new_file(tmp_path / "file", b"x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("tree", "file", "link", "nothing"):
        remove_tree(tmp_path / name)
    assert os.listdir(tmp_path) == ["kept"]


def test_reading_takes_exactly_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_exactly(tmp_path / "file", 3, 4) == b"3456"
    assert read_exactly(tmp_path / "file", 10, 0) == b""


@pytest.mark.parametrize(("offset", "size"), [(0, 11), (8, 3), (10, 1), (100, 1)])
def test_a_file_that_ends_too_soon_is_damage(tmp_path: Path, offset: int, size: int) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with pytest.raises(CorruptIndexError, match=f"file: expected {size} bytes at {offset}, got") as caught:
        read_exactly(tmp_path / "file", offset, size)
    assert "colindex verify" in str(caught.value)


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(CorruptIndexError, match="No such file"):
        read_exactly(tmp_path / "file", 0, 1)


def test_a_folder_in_place_of_a_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(CorruptIndexError, match="Is a directory"):
        read_exactly(tmp_path, 0, 1)


def test_the_errors_of_storage_are_also_those_of_the_library() -> None:
    assert issubclass(CorruptIndexError, StorageError)
    assert issubclass(DiskSpaceError, OSError)


def test_crc32c_is_the_castagnoli_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the polynomial, RFC 3720
    assert crc32c(b"") == 0


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_crc32c_can_be_taken_in_pieces(first: bytes, second: bytes) -> None:
    assert crc32c(second, crc32c(first)) == crc32c(first + second)


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_each_block_has_the_checksum_of_its_own_bytes(blocks: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(blocks * BLOCK_BYTES)
    pieces = [data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES)]
    assert block_checksums(data).tolist() == [xxhash.xxh3_64_intdigest(piece) & 0xFFFFFFFF for piece in pieces]


@given(st.binary(max_size=40), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_an_entry_check_depends_on_where_the_entry_belongs(payload: bytes, number: int, other: int) -> None:
    assert (entry_check(number, payload) == entry_check(other, payload)) == (number == other)
