"""What is handed to liblmdb: sound files alone, whatever happened to them, and whatever cut a commit off."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from colindex.storage import lmdb_guard
from colindex.storage.catalog import Catalog, catalog_path, structural_problems
from colindex.storage.directory import Operations
from colindex.storage.errors import (
    CorruptIndexError,
    IndexNotBuiltError,
)
from colindex.storage.lmdb_guard import newest_transaction, read_commit_record, write_commit_record
from colindex.storage.lock import WriterLock
from tests.faults import Failure, FaultyOperations, using
from tests.storage.samples import add_segment, data_file, empty_generation, opened, write_index


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of two generations."""
    write_index(tmp_path / "index", segments=2)
    return tmp_path / "index"


def flips(path: Path, step: int, check: Callable[[int], None]) -> None:
    """Flip a bit of every `step`-th byte, one at a time."""
    content = path.read_bytes()
    for position in range(0, len(content), step):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :])
        check(position)
    path.write_bytes(content)


def test_every_flipped_bit_is_found_before_liblmdb_sees_it(index: Path) -> None:
    def check(position: int) -> None:
        for open_ in (Catalog.open_reader, Catalog.open_writer):
            with pytest.raises(CorruptIndexError):
                open_(index)

    flips(data_file(index), 509, check)
    flips(catalog_path(index) / "commit.json", 1, check)
    assert opened(index) == (2, (2, 2))


@pytest.mark.parametrize("name", ["data.mdb", "commit.json"])
def test_a_file_cut_short_or_lost_is_found(index: Path, name: str) -> None:
    file = catalog_path(index) / name
    content = file.read_bytes()
    for size in (0, 1, 20, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(CorruptIndexError, match=r"catalog\.lmdb"):
            opened(index)
    file.unlink()
    with pytest.raises(CorruptIndexError):
        opened(index)
    with pytest.raises(CorruptIndexError):
        Catalog.open_writer(index)


def test_an_older_file_put_back_is_found(index: Path) -> None:
    old = data_file(index).read_bytes()
    with WriterLock(index), Catalog.open_writer(index) as writer:
        add_segment(index, writer, writer.manifest(), [1])
    data_file(index).write_bytes(old)
    with pytest.raises(CorruptIndexError, match="to be the last, got 3"):
        opened(index)


class NoRecord(Operations):
    """A process that ends when it would put the `commit.json` of its commit in place."""

    def __init__(self) -> None:
        self.committed = False

    def commit(self, act: Callable[[], None]) -> None:
        super().commit(act)
        self.committed = True

    def replace(self, source: Path, target: Path) -> None:
        if self.committed:
            raise OSError("the process ended here")
        super().replace(source, target)


@pytest.fixture
def torn(index: Path) -> Path:
    """An index whose writer ended inside its commit: pages of generation 3 are in the file, no meta page leads to them."""
    before = data_file(index).read_bytes()
    disk = FaultyOperations(0, torn=True, dead=True, folder=index, kinds=["commit"])
    with using(disk), Catalog.open_writer(index) as writer, pytest.raises(Failure):
        writer.commit(empty_generation(writer.manifest(), 3), [(f"new-{n}", 1, n) for n in range(500)])
    assert data_file(index).read_bytes() != before
    return index


def test_a_commit_that_ended_half_way_is_none(torn: Path) -> None:
    assert opened(torn) == (2, (2, 2))
    with Catalog.open_reader(torn) as catalog:
        assert catalog.locate("new-7") is None


def test_the_writer_after_a_half_commit_makes_the_file_trusted_again(torn: Path) -> None:
    with Catalog.open_writer(torn) as writer:
        assert (record := read_commit_record(catalog_path(torn))) is not None
        assert (record.generation, record.committing) == (2, False)
        writer.commit(empty_generation(writer.manifest(), 3), [("new", 1, 0)])
    assert opened(torn) == (3, (2, 2))


def test_a_half_commit_is_not_excused_unless_it_was_announced(torn: Path) -> None:
    record = read_commit_record(catalog_path(torn))
    assert record is not None
    (catalog_path(torn) / "commit.json").write_bytes(replace(record, committing=False).to_json())
    with pytest.raises(CorruptIndexError, match="xxh3_128"):
        opened(torn)


@pytest.fixture
def unrecorded(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index whose writer ended between its commit and its record: generation 3 by the file, 2 by the record."""
    with monkeypatch.context() as patch, Catalog.open_writer(index) as writer:
        patch.setattr("colindex.storage.directory.operations", NoRecord())
        with pytest.raises(OSError, match="ended here"):
            writer.commit(empty_generation(writer.manifest(), 3), [("new", 1, 0)])
    assert (record := read_commit_record(catalog_path(index))) is not None
    assert record.generation == 2
    return index


def test_a_commit_without_its_record_counts(unrecorded: Path) -> None:
    assert opened(unrecorded) == (3, (2, 2))
    with Catalog.open_reader(unrecorded) as catalog:
        assert catalog.locate("new") == (1, 0)


def test_the_next_writer_makes_up_the_record(unrecorded: Path) -> None:
    with Catalog.open_writer(unrecorded) as writer:
        assert (record := read_commit_record(catalog_path(unrecorded))) is not None
        assert (record.generation, record.last_txnid) == (3, newest_transaction(data_file(unrecorded)))
        writer.commit(empty_generation(writer.manifest(), 4), [])
    assert opened(unrecorded) == (4, (2, 2))


def test_a_writer_whose_record_failed_may_go_on(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog.open_writer(index) as writer:
        with monkeypatch.context() as patch:
            patch.setattr("colindex.storage.directory.operations", NoRecord())
            with pytest.raises(OSError, match="ended here"):
                writer.commit(empty_generation(writer.manifest(), 3), [])
        assert writer.generation == 3
        writer.commit(empty_generation(writer.manifest(), 4), [])
    assert opened(index) == (4, (2, 2))


def test_flipped_bits_without_a_record_are_found_or_harmless(unrecorded: Path) -> None:
    """Pages are walked in Python and values carry checks: nothing crashes, and no value is another one."""
    places = {"doc-7": (2, 2), "new": (1, 0)}
    copy = unrecorded.parent / "copy"
    pages = data_file(unrecorded).read_bytes()
    shutil.copytree(unrecorded, copy)
    outcomes = set()
    for position in range(0, len(pages), 131):
        data_file(copy).write_bytes(pages[:position] + bytes([pages[position] ^ 4]) + pages[position + 1 :])
        try:
            with Catalog.open_reader(copy) as catalog:
                assert catalog.generation == 3, position
                assert all(catalog.locate(id) in (place, None) for id, place in places.items()), position
            outcomes.add("read")
        except (CorruptIndexError, IndexNotBuiltError):
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_stale_meta_page_does_not_bring_back_an_old_generation(index: Path) -> None:
    """The older meta page, made to look newest by one: its pages are sound, but its generation is too old."""
    content = bytearray(data_file(index).read_bytes())
    newest = newest_transaction(data_file(index))
    stale = 4096 * ((newest + 1) % 2) + 16 + 128
    content[stale : stale + 8] = (newest + 1).to_bytes(8, sys.byteorder)
    data_file(index).write_bytes(content)
    with pytest.raises(CorruptIndexError):
        opened(index)


def test_a_record_that_lies_is_found_by_the_values(index: Path) -> None:
    environment = lmdb.open(str(catalog_path(index)), max_dbs=8)
    with environment.begin(write=True) as transaction:
        places = environment.open_db(b"ids", txn=transaction)
        value = transaction.get(b"doc-7", db=places)
        assert value is not None
        transaction.put(b"doc-6", value, db=places)  # another's value: its check covers the key
        transaction.put(b"doc-5", b"", db=places)
    environment.close()
    write_commit_record(catalog_path(index), 2)
    with Catalog.open_reader(index) as catalog:
        assert catalog.locate("doc-7") == (2, 2)
        for id in ("doc-6", "doc-5"):
            with pytest.raises(CorruptIndexError, match=f"check .* of key b'{id}'"):
                catalog.locate(id)
        with pytest.raises(CorruptIndexError):
            list(catalog.ids())


def test_the_record_of_a_commit_is_readable_text(index: Path) -> None:
    value = json.loads((catalog_path(index) / "commit.json").read_text())
    assert value.keys() == {"last_txnid", "generation", "bytes", "xxh3_128", "check"}
    assert value["bytes"] == data_file(index).stat().st_size
    assert (value["last_txnid"], value["generation"]) == (3, 2)


def test_structural_problems_are_words(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database")
    assert "not an LMDB data file" in structural_problems(tmp_path / "data.mdb")[0]


def test_a_long_commit_of_somebody_else_is_not_damage(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages reach the file before the meta page: the hash differs, but the committed pages are sound."""
    monkeypatch.setattr(lmdb_guard, "_RETRY_SECONDS", 0)
    with data_file(index).open("ab") as file:
        file.write(bytes(4096))
    with pytest.raises(CorruptIndexError):
        opened(index)
    with WriterLock(index):
        assert opened(index) == (2, (2, 2))
        with pytest.raises(CorruptIndexError):  # the holder of the lock knows that nobody else commits
            Catalog.open_writer(index)
