"""Repair: whatever is damaged, what is left answers as before, and what is lost is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, SearchParams
from colindex.errors import (
    CorruptIndexError,
    DiskSpaceError,
    IndexLockedError,
    IndexNotBuiltError,
    IndexNotFoundError,
)
from colindex.repair import RepairReport, repair
from colindex.storage.catalog import Catalog
from colindex.storage.lock import WriterLock
from colindex.storage.verify import verify_index
from tests.words import WordEncoder, batches, documents

QUERY = "amber cedar delta rare17 title3"
PARAMS = BuildParams(bits=4, pool_factor=2)
Scores = dict[str, tuple[float, Document]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments, tombstones in two of them, several blocks of records and chunks of everything else."""
    path = tmp_path_factory.mktemp("repair") / "index"
    Index.build(path, documents(200, words=20), WordEncoder(64), PARAMS)
    with Index.open(path, encoder=WordEncoder(64)) as index:
        index.add(
            [replace(document, id=f"doc-{200 + n}") for n, document in enumerate(documents(100, seed=1, words=20))]
        )
        index.upsert([replace(document, id=f"doc-{290 + n}") for n, document in enumerate(documents(60, seed=2))])
        index.delete([f"doc-{n}" for n in range(0, 250, 7)])
    return path


@pytest.fixture(scope="module")
def before(whole: Path) -> Scores:
    return scores(whole)


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def scores(path: Path) -> Scores:
    """Every document with its score and what is stored of it."""
    with Index.open(path, encoder=WordEncoder(64)) as index:
        found = index.search(QUERY, 10_000, params=SearchParams(exact=True))
        assert len(found) == len(index)
        return {hit.id: (hit.score, hit.document) for hit in found}


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[min(int(len(data) * place), len(data) - 1)] ^= 16
    path.write_bytes(data)


def contents(path: Path) -> dict[Path, bytes]:
    """Every file but LMDB's table of readers."""
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock.mdb"}


def repaired(path: Path) -> RepairReport:
    """Repair, after a dry run that has to say the same and change nothing."""
    before = contents(path)
    plan = repair(path, dry_run=True)
    assert contents(path) == before
    report = repair(path)
    assert replace(plan, generation=report.generation, dry_run=False) == report
    assert verify_index(path) == []
    assert repair(path).nothing_to_do
    return report


def assert_the_rest_is_as_before(path: Path, before: Scores, report: RepairReport) -> None:
    lost = {each.id for each in report.lost}
    assert lost <= set(before)
    assert scores(path) == {id_: found for id_, found in before.items() if id_ not in lost}
    assert report.documents == len(before) - len(lost)


SEGMENT_FILES = [
    "zarr.json",
    "records/zarr.json",
    "records/c/0/0",
    "offsets/zarr.json",
    "postings/documents/c/0",
    "postings/offsets/zarr.json",
    "block_checksums/c/0",
    "ids/bytes/c/0",
    "ids/offsets/c/0",
    "documents/bytes/c/0",
    "documents/offsets/c/0",
    "documents/zarr.json",
    "inspection/token_ids/c/0",
    "inspection/spans/zarr.json",
    "inspection/pool_map/c/0",
    "inspection/source_offsets/c/0",
]
LOSSLESS = (
    "zarr.json",
    "postings",
    "block_checksums",
    "ids",
    "inspection",
    "offsets",
    "records/zarr",
    "documents/zarr",
)


@pytest.mark.parametrize(
    ("name", "harm"),
    [(name, "a flip") for name in SEGMENT_FILES]
    + [(name, harm) for name in SEGMENT_FILES[2::4] for harm in ("cut short", "gone")],
)
def test_a_damaged_file_of_a_segment_costs_what_is_in_it(path: Path, before: Scores, name: str, harm: str) -> None:
    file = path / "segments" / "000001.zarr" / name
    if harm == "gone":
        file.unlink()
    elif harm == "cut short":
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    else:
        flip(file, 0.05 if name.startswith("records/c") else 0.3)
    report = repaired(path)
    assert report.rewritten == ("000001",) or (report.dropped == ("000001",) and harm == "gone")
    assert_the_rest_is_as_before(path, before, report)
    if name.startswith(LOSSLESS):
        assert report.lost == ()
    elif harm == "a flip":
        assert 0 < len(report.lost) < 30  # of 264: those in one block, or one text
        part = "vectors are" if name.startswith("records") else "text is"
        assert {each.reason for each in report.lost} == {f"its {part} damaged"}
    assert bool(report.notes) == name.startswith("inspection")


@pytest.mark.parametrize("places", [(0.01, 0.5, 0.9), (0.0, 0.999)])
def test_damage_in_several_files_of_several_segments(path: Path, before: Scores, places: tuple[float, ...]) -> None:
    for segment in ("000001", "000003"):
        for name in ("records/c/0/0", "documents/bytes/c/0", "postings/documents/c/0"):
            for place in places:
                flip(path / "segments" / f"{segment}.zarr" / name, place)
    report = repaired(path)
    assert {*report.rewritten, *report.dropped} == {"000001", "000003"}
    assert "000001" in report.rewritten  # the small one may have lost everything
    assert {each.segment for each in report.lost} <= {"000001", "000003"}
    assert_the_rest_is_as_before(path, before, report)


def test_records_and_their_checksums_damaged_cost_the_shard(path: Path, before: Scores) -> None:
    for name in ("records/c/0/0", "block_checksums/c/0"):
        flip(path / "segments" / "000002.zarr" / name, 0.4)
    report = repaired(path)
    assert report.dropped == ("000002",)
    assert_the_rest_is_as_before(path, before, report)


def test_without_offsets_the_segment_goes_and_its_texts_are_handed_over(path: Path, before: Scores) -> None:
    flip(path / "segments" / "000001.zarr" / "offsets" / "c" / "0", 0.5)
    texts: list[Document] = []
    report = repair(path, rescue=texts.append)
    assert (report.dropped, report.rewritten) == (("000001",), ())
    assert {each.id: before[each.id][1] for each in report.lost} == {text.id: text for text in texts}
    assert all(each.text_rescued and "segment cannot be read" in each.reason for each in report.lost)
    assert_the_rest_is_as_before(path, before, report)
    with Index.open(path, encoder=WordEncoder(64)) as index:
        index.add(texts)
    after = scores(path)
    assert {id_: document for id_, (_, document) in after.items()} == {id_: found[1] for id_, found in before.items()}
    for id_, (score, _) in before.items():  # what was added anew may be coded with centroids that came later
        assert after[id_][0] == pytest.approx(score, rel=0.1)


def test_lost_vectors_are_told_from_lost_texts(path: Path) -> None:
    folder = path / "segments" / "000001.zarr"
    flip(folder / "records" / "c" / "0" / "0", 0.05)
    flip(folder / "documents" / "bytes" / "c" / "0", 0.8)
    texts: list[Document] = []
    report = repair(path, rescue=texts.append)
    assert {each.reason for each in report.lost if not each.text_rescued} == {"its text is damaged"}
    assert [each.id for each in report.lost if each.text_rescued] == [text.id for text in texts] != []


def test_tombstones_are_made_anew_from_the_catalog(path: Path, before: Scores) -> None:
    for file in [file for file in (path / "tombstones").rglob("*") if file.is_file()]:
        flip(file, 0.5)
    report = repaired(path)
    assert (report.lost, len(report.notes)) == ((), len(list((path / "tombstones").iterdir())))
    assert_the_rest_is_as_before(path, before, report)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: flip(folder / "commit.json", 0.5),
        lambda folder: (folder / "commit.json").unlink(),
        lambda folder: flip(folder / "data.mdb", 0.9),
        lambda folder: flip(folder / "data.mdb", 0.0),
        lambda folder: (folder / "data.mdb").write_bytes(b""),
        lambda folder: (folder / "data.mdb").write_bytes((folder / "data.mdb").read_bytes()[:20_000]),
        shutil.rmtree,
    ],
    ids=["record", "no record", "a page", "no magic", "empty", "cut short", "no catalog"],
)
def test_a_catalog_is_made_anew(path: Path, before: Scores, harm: Callable[[Path], object]) -> None:
    harm(path / "catalog.lmdb")
    assert verify_index(path) if (path / "catalog.lmdb").exists() else True
    report = repaired(path)
    assert report.lost == ()
    assert "catalog" in report.notes[0]
    assert_the_rest_is_as_before(path, before, report)
    with Index.open(path, encoder=WordEncoder(64)) as index:
        index.upsert([Document("doc-1", "quokka")])
        assert index.search("quokka", 1)[0].id == "doc-1"
        assert len(index) == len(before)
    assert verify_index(path) == []


def test_any_flip_in_the_catalog_is_repaired(path: Path, before: Scores) -> None:
    data, sound = path / "catalog.lmdb" / "data.mdb", contents(path)
    for place in np.random.default_rng(0).random(6):
        flip(data, float(place))
        assert_the_rest_is_as_before(path, before, repair(path))
        for file in sound:
            file.write_bytes(sound[file])


def test_a_catalog_and_the_ids_of_a_segment_damaged_cost_those_documents(path: Path, before: Scores) -> None:
    flip(path / "catalog.lmdb" / "data.mdb", 0.0)
    for place in (0.3, 0.5, 0.7):
        flip(path / "segments" / "000001.zarr" / "ids" / "bytes" / "c" / "0", place)
    report = repaired(path)
    assert "whose ids cannot be read: they are lost" in "".join(report.notes)
    after = scores(path)
    assert len(before) - 4 < len(after) < len(before)
    assert all(before[id_] == found for id_, found in after.items())


def test_a_catalog_and_tombstones_damaged_bring_deleted_documents_back_and_say_so(path: Path, before: Scores) -> None:
    flip(path / "catalog.lmdb" / "data.mdb", 0.0)
    for file in (path / "tombstones").rglob("c/0"):
        flip(file, 0.5)
    report = repaired(path)
    assert "may have come back; delete them again" in "".join(report.notes)
    after = scores(path)
    assert {id_: after[id_] for id_ in before} == before  # of two documents with one id, the newer one
    assert {"doc-0", "doc-7"} <= set(after)


def test_a_generation_that_only_the_catalog_knew_is_reported(
    path: Path, before: Scores, whole: Path, tmp_path: Path
) -> None:
    shutil.copy(path / "manifest.json", tmp_path / "older")
    with Index.open(whole) as index:
        generation = index.manifest.generation
    with Index.open(path, encoder=WordEncoder(64)) as index:
        index.add([Document("new", "quokka")])
    shutil.copy(tmp_path / "older", path / "manifest.json")
    assert {finding.kind for finding in verify_index(path)} == {"unexpected"}
    flip(path / "catalog.lmdb" / "data.mdb", 0.0)
    report = repair(path)
    assert f"Generation {generation + 1} is lost with it" in report.notes[1]
    assert_the_rest_is_as_before(path, before, report)


def test_without_the_copy_of_the_manifest_a_catalog_is_beyond_repair(path: Path) -> None:
    flip(path / "catalog.lmdb" / "data.mdb", 0.0)
    flip(path / "manifest.json", 0.5)
    before = contents(path)
    for dry_run in (True, False):
        with pytest.raises(CorruptIndexError, match="it cannot be repaired: restore the index from a copy"):
            repair(path, dry_run=dry_run)
    assert contents(path) == before


def test_a_damaged_copy_of_the_manifest_is_written_anew(path: Path, whole: Path) -> None:
    flip(path / "manifest.json", 0.5)
    assert [finding.kind for finding in verify_index(path)] == ["copy"]
    report = repaired(path)
    assert (report.generation, report.lost) == (report.before, ())
    assert (path / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_a_damaged_codebook_is_beyond_repair(path: Path) -> None:
    (centroids,) = path.glob("codebook-*.zarr/clustering.centroids/c/0/0")
    flip(centroids, 0.5)
    with pytest.raises(CorruptIndexError, match="codebook is damaged .* cannot be repaired"):
        repair(path)


def test_a_sound_index_is_left_as_it_is(path: Path, before: Scores) -> None:
    report = repair(path)
    assert report.nothing_to_do
    assert (report.before, report.documents) == (report.generation, len(before))


def test_what_stands_in_the_way_of_a_repair(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IndexNotFoundError):
        repair(tmp_path / "gone")
    (tmp_path / "begun" / "catalog.lmdb").mkdir(parents=True)
    with pytest.raises(IndexNotBuiltError):
        repair(tmp_path / "begun")
    with WriterLock(path), pytest.raises(IndexLockedError):
        repair(path)
    flip(path / "segments" / "000001.zarr" / "records" / "c" / "0" / "0", 0.5)
    monkeypatch.setattr("colindex.storage.directory.free_bytes", lambda path: 1000)
    with pytest.raises(DiskSpaceError):
        repair(path)


def test_a_repair_that_ends_in_the_middle_goes_on(path: Path, before: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(path / "catalog.lmdb" / "data.mdb", 0.0)
    flip(path / "segments" / "000002.zarr" / "records" / "c" / "0" / "0", 0.02)

    def interrupted(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    moments = ("repair.install_catalog", "storage.catalog_repair.write_commit_record", "storage.catalog.Catalog.commit")
    for moment in moments:
        with monkeypatch.context() as patch:
            patch.setattr(f"colindex.{moment}", interrupted)
            with pytest.raises(KeyboardInterrupt):
                repair(path)
    report = repair(path)
    assert report.lost
    assert_the_rest_is_as_before(path, before, report)
    assert verify_index(path) == []


def test_what_is_not_kept_is_not_given_up(path: Path) -> None:
    flip(path / "segments" / "000001.zarr" / "records" / "c" / "0" / "0", 0.05)
    texts: list[Document] = []

    def full() -> None:
        assert len(texts) > 0
        raise DiskSpaceError("no room for them")

    plan = repair(path, dry_run=True)
    with pytest.raises(DiskSpaceError, match="no room"):
        repair(path, rescue=texts.append, before_commit=full)
    assert repair(path, dry_run=True) == plan
    generations: list[int] = []

    def kept() -> None:
        with Catalog.open_reader(path, may_change=False) as catalog:
            generations.append(catalog.generation)

    report = repair(path, before_commit=kept)
    assert generations == [report.before] == [report.generation - 1]


def test_readers_go_on_while_it_is_repaired(path: Path) -> None:
    with Index.open(path, encoder=WordEncoder(64)) as index:
        before = index.search("rare3", 5)
        flip(path / "segments" / "000003.zarr" / "postings" / "documents" / "c" / "0", 0.5)
        assert repair(path).rewritten == ("000003",)
        assert index.search("rare3", 5) == before
        assert index.reopen()
        assert index.search("rare3", 5) == before


def test_an_index_of_vectors_has_no_texts_to_rescue(tmp_path: Path) -> None:
    Index.build_from_vectors(tmp_path / "v", batches(400))
    with Index.open(tmp_path / "v") as index:
        before = index.search_vectors(np.eye(16), 1000, params=SearchParams(exact=True))
    flip(tmp_path / "v" / "segments" / "000001.zarr" / "records" / "c" / "0" / "0", 0.01)
    texts: list[Document] = []
    report = repair(tmp_path / "v", rescue=texts.append)
    lost = {each.id for each in report.lost}
    assert texts == []
    assert 0 < len(lost) < 400
    assert not any(each.text_rescued for each in report.lost)
    with Index.open(tmp_path / "v") as index:
        hits = index.search_vectors(np.eye(16), 1000, params=SearchParams(exact=True))
    assert hits == [hit for hit in before if hit.id not in lost]
