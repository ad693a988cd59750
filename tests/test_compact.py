"""Compaction: every answer before and after is the same, to the bit; what is deleted is gone; readers notice nothing."""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, SearchParams, TokenBatch
from colindex.compact import compact
from colindex.errors import CorruptIndexError, DiskSpaceError, IndexLockedError, IndexNotFoundError
from colindex.progress import Progress
from colindex.storage import scanning
from colindex.storage.catalog import Catalog
from colindex.storage.layout import stray_paths
from colindex.storage.lock import WriterLock
from colindex.storage.segments import SegmentReader, segment_path
from colindex.storage.verify import verify_index
from tests.faults import Failure, FaultyOperations, using
from tests.words import WordEncoder, batches, documents

QUERIES = ["amber cedar", "title3 zephyr rare45", "new3 harbor"]
VECTORS = [np.random.default_rng(seed).standard_normal((5, 16)).astype(np.float32) for seed in range(3)]
GONE = [f"doc-{number}" for number in (1, 7, 8, 40, 41, 43, 59)]


def renamed(count: int, seed: int, prefix: str) -> list[Document]:
    return [
        replace(document, id=f"{prefix}{number}", text=f"{document.text} {prefix}{number}")
        for number, document in enumerate(documents(count, seed))
    ]


def grown(folder: Path, params: BuildParams) -> Path:
    """An index of texts that was built, added to, changed and deleted from: six segments, three with deleted documents."""
    Index.build(folder, documents(60), WordEncoder(), params)
    with opened(folder) as index:
        index.add(renamed(10, 3, "new"))
        index.add([Document(id="empty", text="")])
        index.upsert([*renamed(3, 4, "new"), Document(id="doc-4", text="amber again")])
        index.delete([*GONE, "new5"])
        index.add([Document(id="doc-7", text="returned delta"), Document(id="tie", text="amber cedar")])
        index.add([Document(id="tie too", text="amber cedar")])
    return folder


@pytest.fixture(scope="module", params=["plain", "pooled", "several segments"])
def living(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    params = {
        "plain": BuildParams(),
        "pooled": BuildParams(pool_factor=2, bits=4),
        "several segments": BuildParams(segment_tokens=150),
    }[request.param]
    return grown(tmp_path_factory.mktemp("living") / "index", params)


@pytest.fixture
def folder(living: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(living, tmp_path / "index"))


@pytest.fixture(scope="module")
def grown_plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grown(tmp_path_factory.mktemp("plain") / "index", BuildParams())


@pytest.fixture
def plain(grown_plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown_plain, tmp_path / "plain"))


def opened(folder: Path) -> Index:
    return Index.open(folder, encoder=WordEncoder())


def answers(index: Index) -> list[list[tuple[str, float]]]:
    """Ids and scores, in order, as they are: nothing is rounded."""
    found = []
    for params in (
        SearchParams(exact=True),
        SearchParams(exact=False),
        SearchParams(exact=False, nprobe=4, candidates=9),
    ):
        for k in (3, 200):
            found += [index.search_vectors(query, k, params=params) for query in VECTORS]
            if index.manifest.encoder is not None:
                found += [index.search(query, k, params=params) for query in QUERIES]
    return [[(hit.id, hit.score) for hit in hits] for hits in found]


def chosen(index: Index) -> list[tuple[str, float]]:
    """The answer among the documents that meet a condition."""
    hits = index.search("amber cedar", 200, where="number % 3 = 0 AND title <> 'title4' OR id = 'empty'")
    assert 3 < len(hits) < 40
    return [(hit.id, hit.score) for hit in hits]


def contents(folder: Path) -> dict[str, object]:
    """Everything that is stored of each document, by its id."""
    found: dict[str, object] = {}
    with Catalog.open_reader(folder) as catalog:
        readers = {int(info.name): SegmentReader(folder, info) for info in catalog.manifest().segments}
        for id_, segment, number in catalog.ids():
            reader = readers[segment]
            inspection = reader.inspection(number)
            (part,) = scanning.scan(reader, np.delete(np.arange(reader.info.documents), number))
            columns = [None if column is None else column.tolist() for column in inspection or ()]
            assert reader.external_ids([number]) == [id_]
            found[id_] = (reader.document(number), part.records.tolist(), columns)
    return found


@pytest.mark.parametrize("full", [False, True])
def test_every_answer_is_what_it_was(folder: Path, full: bool) -> None:
    stored = contents(folder)
    with opened(folder) as index:
        before, generation, count = answers(index), index.manifest.generation, len(index)
        texts, filtered = [hit.document for hit in index.search("amber cedar", 200)], chosen(index)
        report = index.compact(full=full)
        assert report.segments_after == len(index.manifest.segments) < report.segments_before
        assert report.generation == index.manifest.generation == generation + len(report.runs) > generation
        assert answers(index) == before
        assert [hit.document for hit in index.search("amber cedar", 200)] == texts
        assert chosen(index) == filtered
        assert ("doc-7" in index, "doc-8" in index, "tie too" in index) == (True, False, True)
        assert len(index) == report.documents == count
        if full:
            assert index.stats().deleted == 0
            assert index.manifest.tombstones == {}
        assert stray_paths(folder, index.manifest) == []
    assert contents(folder) == stored
    assert verify_index(folder) == []


@pytest.mark.parametrize(
    "params", [BuildParams(), BuildParams(pool_factor=3, segment_tokens=100)], ids=["plain", "pooled"]
)
def test_indexes_of_vectors_are_compacted_too(tmp_path: Path, params: BuildParams) -> None:
    folder = tmp_path / "vectors"
    Index.build_from_vectors(folder, batches(60, size=20), params)
    with Index.open(folder) as index:
        for seed in (1, 2, 3):
            index.upsert_vectors([replace_ids(batch, seed) for batch in batches(10, seed=seed)])
        index.delete(["v1", "v2", "w1-4"])
        stored, before = contents(folder), answers(index)
        index.compact(full=True)
        assert answers(index) == before
        assert contents(folder) == stored
    assert verify_index(folder) == []


def replace_ids(batch: TokenBatch, seed: int) -> TokenBatch:
    """Half of them new, half of them already there."""
    ids = tuple(id_ if number % 2 else f"w{seed}-{number}" for number, id_ in enumerate(batch.ids))
    return replace(batch, ids=ids)


def test_segments_of_other_columns_are_left_apart(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    Index.build_from_vectors(folder, batches(10))
    (batch,) = batches(10, seed=1)
    known = replace(
        batch, ids=tuple(f"k{id_}" for id_ in batch.ids), token_ids=np.arange(len(batch.vectors), dtype=np.int32)
    )
    with Index.open(folder) as index:
        index.add_vectors([known])
        index.add_vectors([replace(known, ids=tuple(f"l{id_}" for id_ in batch.ids))])
        stored, before = contents(folder), answers(index)
        assert index.compact(full=True).segments_after == 2
        assert (contents(folder), answers(index)) == (stored, before)
    assert verify_index(folder) == []


def test_what_it_says_that_it_did(plain: Path) -> None:
    with opened(plain) as index:
        manifest = index.manifest
        foreseen = index.compact(dry_run=True)
        assert (index.manifest, index.compact(dry_run=True).runs) == (manifest, foreseen.runs), (
            "a dry run writes nothing"
        )
        report = index.compact()
        (run,) = report.runs
        assert run.segments == tuple(info.name for info in manifest.segments)
        assert (run.documents, run.outputs, run.dropped) == (
            len(index),
            (len(index),),
            index_deleted(manifest.tombstones),
        )
        assert report.dropped == run.dropped == foreseen.dropped
        assert report.bytes_read == foreseen.bytes_read == sum(info.bytes for info in manifest.segments)
        assert report.bytes_written == sum(info.bytes for info in index.manifest.segments) <= foreseen.bytes_written
        assert report.bytes_freed == foreseen.bytes_freed > report.bytes_read, "tombstones too"
        assert (foreseen.dry_run, report.dry_run, foreseen.segments_after, report.segments_after) == (True, False, 1, 1)
        assert (foreseen.generation, report.generation) == (manifest.generation, manifest.generation + 1)
        assert report.seconds > 0


def index_deleted(tombstones: object) -> int:
    assert isinstance(tombstones, dict)
    return sum(each.deleted for each in tombstones.values())


def test_the_second_time_there_is_nothing_to_do(folder: Path) -> None:
    for full in (False, True):
        first, second = compact(folder, full=full), compact(folder, full=full)
        assert (second.runs, second.generation, second.bytes_written) == ((), first.generation, 0)


def test_progress_goes_from_the_first_document_to_the_last(folder: Path) -> None:
    steps: list[Progress] = []
    report = compact(folder, full=True, progress=steps.append)
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert {(step.stage, step.total) for step in steps} == {("compact", sum(run.documents for run in report.runs))}
    assert done[-1] == steps[-1].total


def test_a_reader_that_is_open_all_the_while_keeps_its_answers(plain: Path) -> None:
    with opened(plain) as reader, Index.open(plain, encoder=WordEncoder(), refresh=True) as fresh:
        before, (hit, *_) = answers(reader), reader.search("rare17", k=1)
        old = [segment_path(plain, info.name) for info in reader.manifest.segments]
        seen = []
        compact(plain, progress=lambda _: seen.append(answers(reader)))
        assert seen == [before] * len(seen)
        assert (answers(reader), "doc-4" in reader, "doc-8" in reader) == (before, True, False)
        assert hit.document.text.endswith("rare17")
        assert answers(fresh) == before
        assert all(path.exists() for path in old), "the reader holds them"
        assert reader.reopen()
        assert answers(reader) == before
        assert hit.document.text.endswith("rare17"), "a hit holds them too"
        del hit
        reader.delete(["doc-2"])
        assert not any(path.exists() for path in old)
        assert stray_paths(plain, reader.manifest) == []


def test_the_index_goes_on_living_afterwards(plain: Path) -> None:
    with opened(plain) as index:
        index.compact(full=True)
        index.add([Document(id="later", text="zephyr rare999")])
        index.upsert([Document(id="doc-3", text="grove rare998")])
        index.delete(["doc-2", "later"])
        assert [hit.id for hit in index.search("rare998", k=1)] == ["doc-3"]
        assert "doc-2" not in index
        before = answers(index)
        index.compact(full=True)
        assert answers(index) == before
    assert verify_index(plain) == []


def test_an_index_may_end_without_documents_and_begin_again(plain: Path) -> None:
    with opened(plain) as index:
        left = [hit.id for hit in index.search("amber", 500)]
        index.delete(left)
        report = index.compact()
        assert (report.documents, report.segments_after, report.bytes_written) == (0, 0, 0)
        assert (len(index), answers(index)) == (0, [[]] * len(answers(index)))
        assert (index.search_batch(["amber", "rare1"]), index.search("amber", ids=["doc-1"])) == ([[], []], [])
        assert index.compact(full=True).runs == ()
        assert index.stats().documents == 0
    assert verify_index(plain) == []
    with opened(plain) as index:
        assert index.search("amber") == []
        index.add(documents(5))
        assert [hit.id for hit in index.search("rare3", k=1)] == ["doc-3"]
        index.delete(["doc-3"])
        index.upsert(documents(5))
        assert len(index) == 5
    assert verify_index(plain) == []


# ---- what goes wrong


@pytest.mark.parametrize(
    "part",
    [
        "records/c/0/0", "offsets/c/0", "postings/documents/c/0", "block_checksums/c/0", "ids/bytes/c/0", "ids/offsets/c/0",
        "documents/bytes/c/0", "documents/offsets/c/0", "inspection/token_ids/c/0", "inspection/spans/c/0/0",
        "inspection/spans/zarr.json", "records/zarr.json",
    ],
)  # fmt: skip
def test_damage_is_never_copied(plain: Path, part: str) -> None:
    stored = contents(plain)
    with Catalog.open_reader(plain) as catalog:
        manifest = catalog.manifest()
    path = segment_path(plain, manifest.segments[0].name) / part
    sound = path.read_bytes()
    for at in (0, len(sound) // 2):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x20]) + sound[at + 1 :])
        with pytest.raises(CorruptIndexError, match=re.escape(str(plain))):
            compact(plain, full=True)
        with Catalog.open_reader(plain) as catalog:
            assert catalog.manifest() == manifest
    path.write_bytes(sound)
    compact(plain, full=True)
    assert contents(plain) == stored
    assert verify_index(plain) == []


def test_space_is_looked_for_first(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with opened(plain) as index:
        before, generation = answers(index), index.manifest.generation
        with pytest.raises(DiskSpaceError, match=r"compacting needs [\d,]+ bytes, but only 1,000 are free"):
            index.compact()
        assert (answers(index), index.reopen(), index.manifest.generation) == (before, False, generation)


class FullDisk(FaultyOperations):
    """A disk that is full from some write on."""

    def write(self, descriptor: int, data: memoryview) -> None:
        try:
            super().write(descriptor, data)
        except Failure as error:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def test_a_disk_that_fills_up_leaves_the_index(plain: Path) -> None:
    with opened(plain) as index:
        before = answers(index)
    for at in (1, 20, 40):
        with pytest.raises((DiskSpaceError, Failure)), using(FullDisk(at, torn=True, dead=True)):
            compact(plain)
        with opened(plain) as index:
            assert answers(index) == before


def test_killed_at_any_step_the_index_is_the_last_generation(plain: Path) -> None:
    """Every ninth write, fsync, rename or commit is torn, and nothing happens after it."""
    before, stored, at = ids_and_scores(plain), contents(plain), 0
    while True:
        try:
            with using(FaultyOperations(at, torn=True, dead=True)):
                compact(plain, full=True)
        except Failure:
            assert ids_and_scores(plain) == before
        else:
            break
        at += 9
    assert at > 90, "it was killed ten times and more"
    assert (ids_and_scores(plain), contents(plain)) == (before, stored)
    assert verify_index(plain) == []


def ids_and_scores(folder: Path) -> list[list[tuple[str, float]]]:
    with opened(folder) as index:
        return [[(hit.id, hit.score) for hit in index.search(query, 200)] for query in QUERIES]


def test_interrupted_it_keeps_what_was_finished(tmp_path: Path) -> None:
    """Two runs, with a full segment between them."""
    folder = tmp_path / "index"
    params = BuildParams(segment_tokens=1000)
    Index.build(folder, documents(2), WordEncoder(), params)
    with opened(folder) as index:
        index.add(renamed(2, 1, "a"))
        index.add([Document(id="long", text="amber " * 60), *renamed(140, 2, "b")])
        index.add(renamed(2, 3, "c"))
        index.add(renamed(2, 4, "d"))
        before = answers(index)
        assert [run.segments for run in index.compact(dry_run=True).runs] == [
            ("000001", "000002"),
            ("000004", "000005"),
        ]

        def stop(progress: Progress) -> None:
            if progress.done == 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            index.compact(progress=stop)
        assert index.reopen()
        assert [info.name for info in index.manifest.segments] == ["000006", "000003", "000004", "000005"]
        assert answers(index) == before
        assert [run.segments for run in index.compact().runs] == [("000004", "000005")]
        assert answers(index) == before
        assert stray_paths(folder, index.manifest) == []
    assert verify_index(folder) == []


def test_one_writer_at_a_time(plain: Path) -> None:
    with WriterLock(plain), pytest.raises(IndexLockedError, match=f"process {os.getpid()}"):
        compact(plain)


def test_there_has_to_be_an_index(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        compact(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
