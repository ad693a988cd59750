"""Fail, tear, or end the process at each step of a commit in turn: the previous generation is still there.

1. A sound index of one generation is the start.
2. A second segment is written, sealed and committed with an `Operations` that counts its steps and goes wrong at the Nth.
3. Then the index has to open, answer for every document of its generation, and verify without damage.
4. The next writer removes what is left over and goes wrong one step later, until one gets through.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from colindex.storage.catalog import Catalog, catalog_path
from colindex.storage.lmdb_guard import read_commit_record
from colindex.storage.lock import WriterLock
from colindex.storage.pins import remove_strays
from colindex.storage.segments import SegmentReader
from colindex.storage.verify import verify_index
from tests.faults import Failure, FaultyOperations, using
from tests.storage.samples import add_segment, batch, write_index

LENGTHS = (5, 0, 17, 3, 8)


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


def _is_committing(path: Path) -> bool:
    record = read_commit_record(catalog_path(path))
    return record is not None and record.committing


@pytest.mark.parametrize(
    ("torn", "dead", "stride"), [(False, False, 4), (True, True, 1)], ids=["an error", "a torn end"]
)
def test_each_step_of_a_commit_may_fail(sound: Path, tmp_path: Path, torn: bool, dead: bool, stride: int) -> None:
    """One index goes through it all, failure after failure, as long as nothing is committed."""
    path, at = Path(shutil.copytree(sound, tmp_path / "index")), 0
    kinds, generations = set(), []
    while True:
        operations = FaultyOperations(at, torn=torn, dead=dead, folder=path)
        with using(operations):
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
        if generations[-1] == 2 or _is_committing(path):  # the next writer would take other steps than the first one
            shutil.rmtree(path)
            shutil.copytree(sound, path)
        at += stride
    assert answers(path) == 2 * len(LENGTHS)
    assert verify_index(path) == []
    assert kinds >= ({"create", "write", "fsync", "replace", "commit"} if stride == 1 else {"create", "write", "fsync"})
    commit_at = operations.log.index("commit")
    assert generations == [1 if step <= commit_at else 2 for step in range(0, at, stride)]


def test_every_file_is_synced_before_the_commit_and_the_record_after(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "index"
    shutil.copytree(sound, path)
    operations = FaultyOperations(-1)
    with using(operations):
        commit_second(path)
    commit_at = operations.log.index("commit")
    # commit.json twice: before, that there is about to be a commit, and after, that there is one; then the manifest's copy
    record = ["create", "write", "fsync", "replace", "fsync"]
    before, after = operations.log[:commit_at], operations.log[commit_at + 1 :]
    assert before[-len(record) :] == record
    assert after == 2 * record
    before = before[: -len(record)]
    files = sum(1 for file in (path / "segments" / "000002.zarr").rglob("*") if file.is_file())
    folders = sum(1 for folder in (path / "segments" / "000002.zarr").rglob("*") if folder.is_dir()) + 1
    assert before.count("create") == files
    assert before.count("fsync") == files + folders + 2  # and the folders `segments` and the index itself
    last_write = len(before) - 1 - before[::-1].index("write")
    assert "fsync" not in before[:last_write], "a file is complete before it is synced"


def test_a_first_build_that_ends_anywhere_can_begin_again(tmp_path: Path) -> None:
    """Every eleventh step of a build from nothing."""
    at = 0
    while True:
        path = tmp_path / f"{at}"
        with using(FaultyOperations(at, torn=True, dead=True, folder=path)):
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
