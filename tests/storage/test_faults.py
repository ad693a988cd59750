"""Fail, tear, or end the process at each step of a commit in turn: the previous generation is still there.

1. A sound index of one generation is the start.
2. A second segment is written, sealed and committed with an `Operations` that counts its steps and goes wrong at the Nth.
3. Then the index has to open, answer for every document of its generation, and verify without damage.
4. The next writer removes what is left over and goes wrong one step later, until one gets through.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from colindex.storage import catalog as catalog_module
from colindex.storage import directory
from colindex.storage.catalog import Catalog, catalog_path
from colindex.storage.directory import Operations
from colindex.storage.lock import WriterLock
from colindex.storage.pins import remove_strays
from colindex.storage.segments import SegmentReader
from colindex.storage.verify import verify_index
from tests.storage.samples import add_segment, batch, write_index

LENGTHS = (5, 0, 17, 3, 8)


class Failure(OSError):
    """The step that was made to fail."""


class FaultyOperations(Operations):
    """Counts steps and goes wrong at one of them.

    Args:
        at: number of the step that goes wrong, from 0.
        torn: a write that goes wrong leaves half of its bytes; otherwise none.
        dead: every later step fails too, as for a process that has ended.
    """

    def __init__(self, at: int, *, torn: bool, dead: bool) -> None:
        self.at, self.torn, self.dead = at, torn, dead
        self.steps = 0
        self.log: list[str] = []

    def _step(self, name: str, tear: Callable[[], None] = lambda: None) -> None:
        number, self.steps = self.steps, self.steps + 1
        self.log.append(name)
        if number == self.at:
            if self.torn:
                tear()
            raise Failure(f"step {number}, {name}, on purpose")
        if self.dead and number > self.at:
            raise Failure(f"step {number}, {name}, after the end")

    def create(self, path: Path) -> int:
        self._step("create")
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> None:
        half = data[: len(data) // 2]
        self._step("write", lambda: Operations.write(self, descriptor, half))
        super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._step("fsync")
        super().fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        super().replace(source, target)

    def commit(self, act: Callable[[], None]) -> None:
        self._step("commit")
        super().commit(act)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "index"
    write_index(path, LENGTHS)
    return path


def answers(path: Path) -> int:
    """Read every document of the latest generation; how many there are."""
    with Catalog.open_reader(path) as catalog:
        manifest = catalog.manifest()
        for segment in manifest.segments:
            reader, number = SegmentReader(path, segment), int(segment.name)
            expected = batch(LENGTHS, (number - 1) * len(LENGTHS))
            assert reader.external_ids(range(segment.documents)) == expected.ids
            assert [reader.document(n) for n in range(segment.documents)] == expected.documents
            assert [catalog.locate(id) for id in expected.ids] == [(number, n) for n in range(segment.documents)]
            content = reader.shards[0].path.read_bytes()
            assert content[: expected.records.nbytes] == expected.records.tobytes()
        assert catalog.n_documents == manifest.documents == len(LENGTHS) * manifest.generation
        return manifest.documents


def commit_second(path: Path) -> None:
    with WriterLock(path), Catalog.open_writer(path) as catalog:
        manifest = catalog.manifest()
        remove_strays(path, manifest)
        if manifest.generation == 1:
            add_segment(path, catalog, manifest, LENGTHS)


@pytest.mark.parametrize(
    ("torn", "dead", "stride"), [(False, False, 4), (True, True, 1)], ids=["an error", "a torn end"]
)
def test_each_step_of_a_commit_may_fail(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool, dead: bool, stride: int
) -> None:
    """One index goes through it all, failure after failure, as long as nothing is committed."""
    path, at = Path(shutil.copytree(sound, tmp_path / "index")), 0
    kinds, generations = set(), []
    while True:
        operations = FaultyOperations(at, torn=torn, dead=dead)
        with monkeypatch.context() as patch:
            patch.setattr(directory, "operations", operations)
            patch.setattr(catalog_module, "operations", operations)
            try:
                commit_second(path)
            except Failure:
                kinds.add(operations.log[at])
            else:
                break
        generations.append(answers(path) // len(LENGTHS))
        if at % 16 == 0 or generations[-1] == 2:
            assert {finding.kind for finding in verify_index(path)} <= {"unexpected"}
        if generations[-1] == 2:
            commit_second(path)
            assert answers(path) == 2 * len(LENGTHS)
            assert verify_index(path) == []
            shutil.rmtree(path)
            shutil.copytree(sound, path)
        at += stride
    assert answers(path) == 2 * len(LENGTHS)
    assert verify_index(path) == []
    assert kinds >= ({"create", "write", "fsync", "replace", "commit"} if stride == 1 else {"create", "write", "fsync"})
    commit_at = operations.log.index("commit")
    assert generations == [1 if step <= commit_at else 2 for step in range(0, at, stride)]


def test_every_file_is_synced_before_the_commit_and_the_record_after(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index"
    shutil.copytree(sound, path)
    operations = FaultyOperations(-1, torn=False, dead=False)
    monkeypatch.setattr(directory, "operations", operations)
    monkeypatch.setattr(catalog_module, "operations", operations)
    commit_second(path)
    commit_at = operations.log.index("commit")
    before, after = operations.log[:commit_at], operations.log[commit_at + 1 :]
    files = sum(1 for file in (path / "segments" / "000002.zarr").rglob("*") if file.is_file())
    folders = sum(1 for folder in (path / "segments" / "000002.zarr").rglob("*") if folder.is_dir()) + 1
    assert before.count("create") == files
    assert before.count("fsync") == files + folders + 2  # and the folders `segments` and the index itself
    last_write = len(before) - 1 - before[::-1].index("write")
    assert "fsync" not in before[:last_write], "a file is complete before it is synced"
    assert after == 2 * ["create", "write", "fsync", "replace", "fsync"]  # commit.json, and the copy of the manifest


def test_a_first_build_that_ends_anywhere_can_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every eleventh step of a build from nothing."""
    at = 0
    while True:
        path = tmp_path / f"{at}"
        operations = FaultyOperations(at, torn=True, dead=True)
        with monkeypatch.context() as patch:
            patch.setattr(directory, "operations", operations)
            patch.setattr(catalog_module, "operations", operations)
            try:
                write_index(path, LENGTHS)
            except Failure:
                pass
            else:
                break
        with WriterLock(path), Catalog.open_writer(path) as catalog:
            assert catalog.generation in (0, 1)
            left = remove_strays(path, None) if catalog.generation == 0 else []
            assert all(stray.name != catalog_path(path).name for stray in left)
        at += 11
    assert answers(path) == len(LENGTHS)
