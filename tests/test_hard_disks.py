"""Disks that are full, that cannot be read, that may not be written; writers that died, and writers that are not alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from colindex import BuildParams, Document, Index, SearchParams
from colindex.errors import (
    ColindexError,
    CorruptIndexError,
    DiskSpaceError,
    IndexLockedError,
    IndexReadOnlyError,
    StorageError,
)
from colindex.storage.verify import verify_index
from tests.storage.block_worlds import fail_reads
from tests.words import WordEncoder, documents

ROOT = Path(__file__).resolve().parents[1]
PAGE = 4096
PARAMS = BuildParams(bits=8, segment_tokens=100, threads=1)

Answers = list[tuple[str, float, str]]


def opened(path: Path) -> Index:
    return Index.open(path, encoder=WordEncoder())


def answers(index: Index) -> Answers:
    hits = index.search("amber cedar rare7", 50, params=SearchParams(exact=True))
    return [(hit.id, hit.score, hit.document.text) for hit in hits]


def harm(path: Path) -> list[str]:
    return [finding.message for finding in verify_index(path) if not finding.harmless]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "index"
    Index.build(path, documents(20), WordEncoder(), PARAMS)
    with opened(path) as index:
        index.delete(["doc-4"])
    return path


@dataclass(frozen=True)
class SmallDisk:
    """A file system of 3 MiB."""

    folder: Path

    def leave(self, pages: int) -> None:
        """Fill it, but for so many pages."""
        self.leave_all()
        free = shutil.disk_usage(self.folder).free
        (self.folder / "ballast").write_bytes(bytes(free - pages * PAGE))

    def leave_all(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs the right to mount a small file system (root): {done.stderr.strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


# ---- full

CHANGES: dict[str, Callable[[Index], object]] = {
    "add": lambda index: index.add([Document(id="new", text="amber kelp")]),
    "upsert": lambda index: index.upsert([Document(id="doc-7", text="amber kelp")]),
    "delete": lambda index: index.delete(["doc-7"]),
    "compact": lambda index: index.compact(full=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_disk_that_fills_up_changes_nothing(whole: Path, disk: SmallDisk, change: str) -> None:
    """One page more each time, until it is enough; then the same with room."""
    path, pages = disk.folder / "index", 0
    while True:
        shutil.copytree(whole, path)
        disk.leave(pages)
        with opened(path) as index:
            before = answers(index)
            try:
                CHANGES[change](index)
                break
            except DiskSpaceError as error:
                assert "free" in str(error) and str(path) in str(error)  # noqa: PT017
            assert answers(index) == before
            with opened(path) as fresh:
                assert answers(fresh) == before
            assert harm(path) == []
            disk.leave_all()
            CHANGES[change](index)
            assert (answers(index) == before) == (change == "compact")
        assert verify_index(path) == []
        shutil.rmtree(path)
        pages += 1 if change == "delete" else 3
    assert pages > 3
    assert harm(path) == []


def test_a_build_on_a_disk_that_fills_up_is_resumed_with_room(disk: SmallDisk, tmp_path: Path) -> None:
    path, pages, failures = disk.folder / "index", 0, 0
    while True:
        disk.leave(pages)
        try:
            Index.build(path, documents(20), WordEncoder(), PARAMS)
            break
        except DiskSpaceError:
            failures += 1
        disk.leave_all()
        Index.build(path, documents(20), WordEncoder(), PARAMS, resume=True)
        with opened(path) as index:
            assert len(index) == 20
        assert verify_index(path) == []
        shutil.rmtree(path)
        pages += 9
    assert failures > 5


_OPEN = "import sys; from colindex import Index; Index.open(sys.argv[1])"


def test_opening_a_copy_without_room_for_its_lock_is_no_signal(whole: Path, disk: SmallDisk) -> None:
    path = shutil.copytree(whole, disk.folder / "index", ignore=shutil.ignore_patterns("lock.mdb"))
    disk.leave(0)
    done = subprocess.run([sys.executable, "-c", _OPEN, path], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, "by an exception, not by SIGBUS"
    assert "lock.mdb: the disk is full" in done.stderr


# ---- unreadable


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(whole: Path, tmp_path: Path) -> None:
    """An address space has no page 0: reading it is an I/O error, as of a disk that fails."""
    path = Path(shutil.copytree(whole, tmp_path / "index"))
    with opened(path) as index:
        expected = answers(index)
    files = [
        file for file in sorted(path.rglob("*")) if file.is_file() and file.name not in ("writer.lock", "lock.mdb")
    ]
    assert len(files) > 40
    for file in files:
        file.rename(tmp_path / "aside")
        file.symlink_to("/proc/self/mem")
        assert any(file == finding.path or file.parent == finding.path for finding in verify_index(path)), file
        try:
            with opened(path) as index:
                assert answers(index) == expected
        except ColindexError as error:
            assert str(path) in str(error)  # noqa: PT017
        file.unlink()
        (tmp_path / "aside").rename(file)


def test_records_that_cannot_be_read_any_more_are_an_error_until_they_can(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "index"))
    with opened(path) as index:
        fail_reads(index._open.snapshot.store, 0)
        for _ in range(2):
            with pytest.raises(StorageError, match=r"records/c/0/0: .*errno 5.*check the disk"):
                index.search("amber")
        assert "doc-3" in index
    with opened(path) as index:
        assert len(answers(index)) == 19


def test_a_catalog_that_cannot_be_read_is_an_error(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "index"))

    def broken(file: Path) -> None:
        raise OSError(5, os.strerror(5), str(file))

    monkeypatch.setattr("colindex.storage.lmdb_guard.file_sum", broken)
    with pytest.raises(CorruptIndexError, match=r"data\.mdb: .*Input/output error"):
        opened(path)


# ---- read-only


def test_a_read_only_disk_is_searched_and_not_written(whole: Path, disk: SmallDisk) -> None:
    path = Path(shutil.copytree(whole, disk.folder / "index"))
    disk.read_only()
    with opened(path) as index:
        before = answers(index)
        for change in CHANGES.values():
            with pytest.raises(IndexReadOnlyError, match=r"Read-only file system.*copy it"):
                change(index)
        assert answers(index) == before
        assert not index.reopen()
    assert verify_index(path) == []
    with pytest.raises(IndexReadOnlyError, match="Read-only"):
        Index.build(disk.folder / "other", documents(2), WordEncoder())


# ---- other readers and writers

_READER = """
import sys
from pathlib import Path
from tests.test_hard_disks import answers, opened

with opened(Path(sys.argv[1])) as index:
    while sys.stdin.readline():
        print(hash(tuple(answers(index))), "doc-7" in index, "doc-4" in index, flush=True)
"""


def test_a_reader_in_another_process_outlives_compactions(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "index"))
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )

    def says() -> str:
        assert reader.stdin is not None and reader.stdout is not None
        reader.stdin.write("?\n")
        reader.stdin.flush()
        return reader.stdout.readline()

    with reader, opened(path) as index:
        before, old = says(), {segment.name for segment in index.manifest.segments}
        assert before.split()[1:] == ["True", "False"]
        for change in ("compact", "delete", "add", "compact"):
            CHANGES[change](index)
            assert says() == before
        assert old.isdisjoint(segment.name for segment in index.manifest.segments)
        assert all((path / "segments" / f"{name}.zarr").exists() for name in old), "as long as the reader has them"
        reader.communicate()
        index.delete(["new"])
        assert not any((path / "segments" / f"{name}.zarr").exists() for name in old)
    assert verify_index(path) == []


_WRITER = """
import sys
from pathlib import Path
from colindex import Document, Index
from tests.words import WordEncoder

def slowly():
    yield Document(id="slow", text="amber")
    print("writing", flush=True)
    sys.stdin.readline()

with Index.open(Path(sys.argv[1]), encoder=WordEncoder()) as index:
    index.add(slowly())
"""


@pytest.fixture
def index_of_two(whole: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """An index, and a process that is in the middle of adding a document to it."""
    path = Path(shutil.copytree(whole, tmp_path / "index"))
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield path, process
        process.kill()


def test_the_second_of_two_writers_is_told_who_is_first(index_of_two: tuple[Path, subprocess.Popen[str]]) -> None:
    path, process = index_of_two
    with opened(path) as index:
        before = answers(index)
        for change in CHANGES.values():
            with pytest.raises(IndexLockedError, match=f"written by process {process.pid} on .*wait"):
                change(index)
        assert answers(index) == before
        process.communicate("go on\n")
        assert process.returncode == 0
        assert index.reopen()
        assert "slow" in index
        for change in CHANGES.values():
            change(index)
    assert verify_index(path) == []


def test_the_lock_of_a_writer_that_was_killed_is_nobodys(index_of_two: tuple[Path, subprocess.Popen[str]]) -> None:
    path, process = index_of_two
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert harm(path) == []
    with opened(path) as index:
        assert "slow" not in index
        index.add([Document(id="slow", text="kelp")])
        assert "slow" in index
    assert verify_index(path) == []
