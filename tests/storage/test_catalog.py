"""The catalog: one transaction a generation, and readers that keep theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colindex.storage import catalog as catalog_module
from colindex.storage.catalog import Catalog, catalog_path, structural_problems
from colindex.storage.errors import (
    FormatTooNewError,
    IndexNotBuiltError,
    IndexNotFoundError,
    InvalidIdError,
    StorageError,
)
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import FORMAT_VERSION
from tests.storage.samples import add_segment, data_file, empty_generation, first_manifest, opened, write_index

ids = st.text(min_size=1, max_size=20).filter(lambda id: len(id.encode()) <= 511)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of two generations."""
    write_index(tmp_path / "index", segments=2)
    return tmp_path / "index"


# -- commits -----------------------------------------------------------------------------------------------------------


def test_a_generation_is_there_after_its_commit(index: Path) -> None:
    with Catalog.open_reader(index) as catalog:
        manifest = catalog.manifest()
        assert (catalog.generation, manifest.generation, catalog.n_documents) == (2, 2, 10)
        assert [segment.name for segment in manifest.segments] == ["000001", "000002"]
        assert catalog.locate("doc-0") == (1, 0)
        assert catalog.locate("doc-9") == (2, 4)
        assert catalog.locate("doc-10") is None


@settings(max_examples=15)
@given(st.dictionaries(ids, st.tuples(st.just(1), st.integers(0, 65_535)), max_size=30), ids)
def test_any_ids_come_back(
    tmp_path_factory: pytest.TempPathFactory, places: dict[str, tuple[int, int]], other: str
) -> None:
    path = tmp_path_factory.mktemp("index")
    manifest = replace(first_manifest(path), next_segment=2)
    with Catalog.open_writer(path) as catalog:
        catalog.commit(manifest, ((id, *place) for id, place in places.items()))
    with Catalog.open_reader(path) as catalog:
        assert {id: (segment, document) for id, segment, document in catalog.ids()} == places
        assert catalog.locate(other) == places.get(other)
        assert [id for id, _, _ in catalog.ids()] == sorted(places, key=str.encode)


def test_an_id_that_exists_moves(tmp_path: Path) -> None:
    manifest = replace(first_manifest(tmp_path), next_segment=9)
    with Catalog.open_writer(tmp_path) as catalog:
        catalog.commit(manifest, [("a", 1, 1)])
        catalog.commit(empty_generation(manifest, 2), [("a", 2, 5)])
        assert catalog.locate("a") == (2, 5)


@pytest.mark.parametrize("generation", [0, 2, 5])
def test_generations_follow_each_other(tmp_path: Path, generation: int) -> None:
    manifest = first_manifest(tmp_path)
    with Catalog.open_writer(tmp_path) as catalog, pytest.raises(StorageError, match="expected generation 1"):
        catalog.commit(empty_generation(manifest, generation), [])


def test_a_reader_does_not_commit(index: Path) -> None:
    with Catalog.open_reader(index) as catalog, pytest.raises(StorageError, match="opened for reading"):
        catalog.commit(empty_generation(catalog.manifest(), 3), [])


@pytest.mark.parametrize("id", ["", "x" * 512, "\udc80"])
def test_an_id_that_cannot_be_stored_commits_nothing(index: Path, id: str) -> None:
    with Catalog.open_writer(index) as catalog:
        with pytest.raises(InvalidIdError):
            catalog.commit(empty_generation(catalog.manifest(), 3), [("good", 1, 1), (id, 1, 1)])
        with pytest.raises(InvalidIdError):
            catalog.locate(id)
        assert (catalog.generation, catalog.locate("good")) == (2, None)
    assert opened(index) == (2, (2, 2))


def test_only_the_last_manifests_are_kept(tmp_path: Path) -> None:
    manifest = first_manifest(tmp_path)
    with Catalog.open_writer(tmp_path) as catalog:
        for generation in range(1, 12):
            catalog.commit(empty_generation(manifest, generation), [])
    environment = lmdb.open(str(catalog_path(tmp_path)), max_dbs=8)
    with environment.begin() as transaction:
        manifests = environment.open_db(b"manifests", txn=transaction, create=False)
        assert [int.from_bytes(key, "big") for key, _ in transaction.cursor(db=manifests)] == [10, 11]
    environment.close()


def test_the_map_grows_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "_FIRST_MAP", 1 << 16)
    monkeypatch.setattr(catalog_module, "_MAP_ROUND", 1)
    manifest = replace(first_manifest(tmp_path), next_segment=2)
    with Catalog.open_writer(tmp_path) as writer:
        writer.commit(manifest, [("first", 1, 0)])
        with Catalog.open_reader(tmp_path) as reader:
            writer.commit(empty_generation(manifest, 2), ((f"{n:0100}", 1, n) for n in range(3000)))
            assert reader.locate("first") == (1, 0)
        assert writer.locate(f"{2999:0100}") == (1, 2999)
    assert data_file(tmp_path).stat().st_size > 1 << 16
    assert structural_problems(data_file(tmp_path)) == []


def test_a_catalog_of_many_generations_stays_sound(tmp_path: Path) -> None:
    manifest = replace(first_manifest(tmp_path), next_segment=2)
    with Catalog.open_writer(tmp_path) as catalog:
        for generation in range(1, 30):
            catalog.commit(empty_generation(manifest, generation), [(f"{generation}-{n}", 1, n) for n in range(40)])
            assert structural_problems(data_file(tmp_path)) == []
    with Catalog.open_reader(tmp_path) as catalog:
        assert len(list(catalog.ids())) == 29 * 40


# -- who sees what -----------------------------------------------------------------------------------------------------


def test_a_reader_keeps_its_generation(index: Path) -> None:
    with Catalog.open_reader(index) as before:
        with WriterLock(index), Catalog.open_writer(index) as writer:
            add_segment(index, writer, writer.manifest(), [3, 3])
            assert writer.locate("doc-11") == (3, 1)
        assert (before.generation, before.is_latest()) == (2, False)
        with Catalog.open_reader(index) as after:
            assert (after.generation, after.locate("doc-11")) == (3, (3, 1))


def test_catalogs_of_one_file_are_closed_one_by_one(index: Path) -> None:
    first, second = Catalog.open_reader(index), Catalog.open_reader(index)
    first.close()
    first.close()
    assert second.locate("doc-0") == (1, 0)
    second.close()
    environment = lmdb.open(str(catalog_path(index)), readonly=True)  # refused while this process has it open
    environment.close()


def test_a_catalog_that_nobody_closed_is_let_go_of(index: Path) -> None:
    Catalog.open_reader(index)
    assert not catalog_module._environments


def test_an_index_made_anew_at_the_same_path_is_another(index: Path) -> None:
    with Catalog.open_reader(index) as old:
        shutil.rmtree(index)
        write_index(index)
        assert (old.generation, opened(index)[0]) == (2, 1)


def test_a_read_only_folder_is_read_without_writing(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (catalog_path(index) / "lock.mdb").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    before = {path: path.stat().st_mtime_ns for path in index.rglob("*")}
    assert opened(index) == (2, (2, 2))
    assert {path: path.stat().st_mtime_ns for path in index.rglob("*")} == before


def test_a_reader_leaves_every_byte_as_it_is(index: Path) -> None:
    before = {path: path.read_bytes() for path in index.rglob("*") if path.is_file() and path.name != "lock.mdb"}
    assert opened(index) == (2, (2, 2))
    assert {path: path.read_bytes() for path in before} == before


COMMITS = """
import sys
from dataclasses import replace
from pathlib import Path
from colindex.storage.catalog import Catalog
from colindex.storage.lock import WriterLock
path = Path(sys.argv[1])
with WriterLock(path), Catalog.open_writer(path) as catalog:
    for generation in range(3, 60):
        ids = ((f"{generation}-{n}", 1, n) for n in range(500))
        catalog.commit(replace(catalog.manifest(), generation=generation), ids)
"""


def test_readers_open_while_another_process_commits(index: Path) -> None:
    seen = set()
    with subprocess.Popen([sys.executable, "-c", COMMITS, str(index)]) as process:
        while process.poll() is None:
            seen.add(opened(index)[0])
    assert process.returncode == 0
    assert opened(index)[0] == 59
    assert len(seen) > 1


def test_no_index_and_no_commit_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="got none"):
        Catalog.open_reader(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"without catalog\.lmdb"):
        Catalog.open_reader(tmp_path)
    with WriterLock(tmp_path), pytest.raises(IndexNotBuiltError, match="nothing was committed"):
        Catalog.open_reader(tmp_path)
    with Catalog.open_writer(tmp_path) as catalog:
        assert (catalog.generation, catalog.n_documents, catalog.locate("a"), list(catalog.ids())) == (0, 0, None, [])
        with pytest.raises(IndexNotBuiltError):
            catalog.manifest()
    with pytest.raises(IndexNotBuiltError, match="nothing was committed"):
        Catalog.open_reader(tmp_path)
    with Catalog.open_writer(tmp_path) as catalog:
        catalog.commit(first_manifest(tmp_path), [])
    assert opened(tmp_path) == (1, None)


def test_a_newer_index_is_refused(tmp_path: Path) -> None:
    newer = replace(first_manifest(tmp_path), format_version=FORMAT_VERSION + 1)
    with Catalog.open_writer(tmp_path) as catalog:
        catalog.commit(newer, [])
    for open_ in (Catalog.open_reader, Catalog.open_writer):
        with pytest.raises(FormatTooNewError, match="upgrade colindex"):
            open_(tmp_path)
    assert not catalog_module._environments
