"""Adding, upserting and deleting: against a fresh index of what should be left, and against readers that do not move."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, SearchParams, TokenBatch
from colindex.change import add, delete
from colindex.drift import Drift
from colindex.errors import (
    CorpusError,
    DocumentNotFoundError,
    DuplicateIdError,
    EncoderMismatchError,
    IndexLockedError,
    IndexNotFoundError,
    InputError,
    InvalidIdError,
    QueryError,
)
from colindex.sources import TextSource
from colindex.storage import entries
from colindex.storage.layout import stray_paths
from colindex.storage.lock import WriterLock
from colindex.storage.verify import verify_index
from tests.words import WordEncoder, batches, documents

QUERIES = ["amber cedar", "rare17 delta", "title3 zephyr rare45", "rare2", "flint flint grove"]
PARAMS = BuildParams(bits=8, segment_tokens=150)
"""Eight bits: what is coded with another codebook gets nearly the same scores."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("change") / "index"
    Index.build(folder, documents(60), WordEncoder(), PARAMS)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def opened(folder: Path) -> Index:
    return Index.open(folder, encoder=WordEncoder())


def scores(index: Index, k: int = 100, exact: bool = True) -> list[dict[str, float]]:
    params = SearchParams(exact=exact)
    return [{hit.id: hit.score for hit in index.search(query, k, params=params)} for query in QUERIES]


def oracle(left: Sequence[Document], tmp_path: Path) -> list[dict[str, float]]:
    """What an index built of these documents alone answers."""
    Index.build(tmp_path / "oracle", left, WordEncoder(), PARAMS)
    with opened(tmp_path / "oracle") as index:
        return scores(index)


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=0.05)  # another codebook codes a little differently


def test_what_is_added_is_found_and_what_was_there_keeps_its_scores(folder: Path, tmp_path: Path) -> None:
    new = [replace(document, id=f"new-{document.id}") for document in documents(25, seed=5)]
    with opened(folder) as index:
        before = scores(index)
        report = index.add(new)
        assert (report.added, report.replaced, report.deleted, report.documents) == (25, 0, 0, 85)
        assert (report.generation, index.manifest.generation, len(index)) == (2, 2, 85)
        after = scores(index)
        assert "new-doc-3" in index
    for old, grown in zip(before, after, strict=True):
        assert {id_: grown[id_] for id_ in old} == old, "no segment was touched"
    assert_same(after, oracle([*documents(60), *new], tmp_path))
    assert verify_index(folder) == []


def test_a_deleted_document_is_gone_and_the_others_keep_their_scores(folder: Path) -> None:
    gone = [f"doc-{number}" for number in (0, 7, 8, 30, 59)]
    with opened(folder) as index:
        before = scores(index)
        report = index.delete(gone)
        assert (report.deleted, report.documents, len(index)) == (5, 55, 55)
        assert not any(id_ in index for id_ in gone)
        for exact in (True, False):
            after = scores(index, exact=exact)
            for old, left in zip(before, after, strict=True):
                assert left == pytest.approx({id_: score for id_, score in old.items() if id_ not in gone}, abs=1e-5)
        assert index.stats().deleted == 5
    assert verify_index(folder) == []


@pytest.mark.parametrize("exact", [True, False])
def test_k_hits_come_back_as_long_as_k_documents_are_left(folder: Path, exact: bool) -> None:
    with opened(folder) as index:
        index.delete(f"doc-{number}" for number in range(57))
        few = SearchParams(exact=exact, nprobe=1, candidates=1)
        assert {hit.id for hit in index.search("amber rare3", 10, params=few)} == {"doc-57", "doc-58", "doc-59"}
        index.delete(["doc-57", "doc-58", "doc-59"])
        assert (len(index), index.search("amber", params=SearchParams(exact=exact))) == (0, [])
        index.add(documents(3))
        assert [hit.id for hit in index.search("rare1", k=1)] == ["doc-1"]
    assert verify_index(folder) == []


def test_an_upsert_replaces_and_adds_in_one_commit(folder: Path, tmp_path: Path) -> None:
    changed = [Document(id="doc-3", text="zephyr rare17"), Document(id="fresh", text="amber cedar")]
    with opened(folder) as index:
        report = index.upsert(changed)
        assert (report.added, report.replaced, report.documents, report.generation) == (1, 1, 61, 2)
        assert index.search("zephyr rare17", k=1)[0].document == changed[0]
        left = [document for document in documents(60) if document.id != "doc-3"]
        assert_same(scores(index), oracle([*left, *changed], tmp_path))
        index.upsert([Document(id="doc-3", text="amber")])
        assert len(index) == 61
    assert verify_index(folder) == []


def test_an_id_may_come_back_after_it_was_deleted(folder: Path) -> None:
    with opened(folder) as index:
        index.delete(["doc-4"])
        index.add([Document(id="doc-4", text="amber again")])
        assert [hit.id for hit in index.search("again", k=1)] == ["doc-4"]
        index.delete(["doc-4"])
        assert "doc-4" not in index
    assert verify_index(folder) == []


def test_vectors_are_added_upserted_and_deleted_too(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    Index.build_from_vectors(folder, batches(40), BuildParams(bits=8))
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((4, 16)).astype(np.float32) for _ in range(3)]
    arrays = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in arrays]
    with Index.open(folder) as index:
        index.add_vectors([TokenBatch.from_arrays(["x", "y"], arrays[:2])])
        assert [hit.id for hit in index.search_vectors(arrays[1], k=1)] == ["y"]
        index.upsert_vectors([TokenBatch.from_arrays(["y"], arrays[2:])])
        (hit,) = index.search_vectors(arrays[2], k=1)
        assert hit.id == "y"
        assert hit.score == pytest.approx(4, abs=0.1)
        index.delete(["y"])
        assert len(index) == 41
    assert verify_index(folder) == []


@pytest.mark.parametrize(
    ("new", "error", "words"),
    [
        ([Document(id="n", text="a"), Document(id="doc-9", text="b")], DuplicateIdError, "doc-9.*upsert"),
        ([Document(id="n", text="a"), Document(id="n", text="b")], DuplicateIdError, "share the id 'n'"),
        ([], CorpusError, "no documents"),
        ([Document(id="n", text=7)], InputError, "text"),  # type: ignore[arg-type]
        ([Document(id="", text="a")], InvalidIdError, "id ''"),
    ],
    ids=["taken", "twice", "none", "no text", "no id"],
)
def test_bad_documents_change_nothing(folder: Path, new: list[Document], error: type[Exception], words: str) -> None:
    with opened(folder) as index:
        before = scores(index)
        with pytest.raises(error, match=words):
            index.add(new)
        assert (index.manifest.generation, scores(index)) == (1, before)
        index.add([Document(id="good", text="amber")])
    assert verify_index(folder) == []


def test_other_vectors_than_the_index_was_built_from_are_refused(folder: Path) -> None:
    other = TextSource(documents(1, seed=9), WordEncoder(salt=1), PARAMS)
    with pytest.raises(EncoderMismatchError, match="salt"):
        add(folder, other)
    with opened(folder) as index, pytest.raises(EncoderMismatchError, match="texts"):
        index.add_vectors(batches(2))
    with Index.open(folder) as index, pytest.raises(QueryError, match="encoder"):
        index.add(documents(1, seed=9))


def test_deleting_what_is_not_there(folder: Path) -> None:
    with opened(folder) as index:
        with pytest.raises(DocumentNotFoundError, match=r"'no-0', .* and 2 more.*missing_ok"):
            index.delete(["doc-1", *(f"no-{number}" for number in range(7))])
        assert "doc-1" in index
        report = index.delete(["doc-1", "doc-1", "no"], missing_ok=True)
        assert (report.deleted, report.generation) == (1, 2)
        report = index.delete(["doc-1"], missing_ok=True)
        assert (report.deleted, report.generation) == (0, 2), "nothing to delete is no new generation"


def test_a_dry_run_tells_and_changes_nothing(folder: Path) -> None:
    source = TextSource([Document(id="doc-3", text="amber"), Document(id="n", text="b")], WordEncoder(), PARAMS)
    report = add(folder, source, replace=True, dry_run=True)
    assert (report.added, report.replaced, report.documents, report.dry_run) == (1, 1, 61, True)
    report = delete(folder, ["doc-1", "doc-2"], dry_run=True)
    assert (report.deleted, report.documents, report.dry_run) == (2, 58, True)
    with opened(folder) as index:
        assert (index.manifest.generation, len(index)) == (1, 60)
    assert verify_index(folder) == []


def test_there_has_to_be_an_index(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        delete(tmp_path / "nothing", ["a"])
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(IndexNotFoundError):
        delete(tmp_path, ["a"])
    assert list(tmp_path.iterdir()) == []


def test_one_writer_at_a_time(folder: Path) -> None:
    with WriterLock(folder), opened(folder) as index, pytest.raises(IndexLockedError, match=f"process {os.getpid()}"):
        index.delete(["doc-1"])


def test_a_reader_keeps_its_generation_until_it_reopens(folder: Path) -> None:
    with opened(folder) as reader, opened(folder) as writer, Index.open(folder, refresh=True) as fresh:
        before, (hit,) = scores(reader), reader.search("rare17", k=1)
        writer.upsert([Document(id="doc-17", text="nothing")])
        writer.delete(["doc-2"])
        writer.add([Document(id="new", text="amber")])
        assert scores(reader) == before
        assert hit.document.text.endswith("rare17")
        assert ("new" in reader, "doc-2" in reader, "doc-17" in reader, len(reader)) == (False, True, True, 60)
        fresh.search_vectors(WordEncoder().encode_query("amber"))
        assert fresh.manifest.generation == 4
        assert reader.reopen()
        assert not reader.reopen()
        assert ("new" in reader, "doc-2" in reader, len(reader)) == (True, False, 60)
        assert scores(reader) == scores(writer)


def test_a_closed_handle_says_so(folder: Path) -> None:
    index = opened(folder)
    index.close()
    index.close()
    for act in (lambda: index.search("amber"), lambda: len(index), index.reopen, index.stats):
        with pytest.raises(QueryError, match="closed"):
            act()


def test_what_writers_left_is_removed_by_the_next(folder: Path) -> None:
    for name in ("segments/000009.zarr", "adding", "tombstones/000001-000002.zarr", "codebook-000002.zarr"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x").write_text("x")
    with opened(folder) as index:
        index.delete(["doc-1"])
        assert stray_paths(folder, index.manifest) == []


def test_ids_restrict_a_search(folder: Path) -> None:
    wanted = ["doc-4", "doc-40", "doc-17", "not there"]
    with opened(folder) as index:
        everything = scores(index)
        index.delete(["doc-40"])
        for exact in (True, False):
            for query, all_ in zip(QUERIES, everything, strict=True):
                hits = index.search(query, 10, ids=wanted, params=SearchParams(exact=exact))
                assert {hit.id: hit.score for hit in hits} == pytest.approx(
                    {id_: all_[id_] for id_ in ("doc-4", "doc-17")}
                )
        assert index.search("amber", ids=[]) == []
        assert index.search_batch(["amber", "rare4"], 1, ids=["doc-4"])[1][0].id == "doc-4"


def test_ids_restrict_a_search_of_an_old_generation(folder: Path) -> None:
    wanted = ["doc-4", "doc-40", "doc-17", "doc-17", "doc-2", "new", "not there"]
    with opened(folder) as reader, opened(folder) as writer:
        writer.delete(["doc-2"])
        assert reader.reopen()
        before = {hit.id: hit.score for hit in reader.search("amber rare17", 100)}
        writer.upsert([Document(id="doc-17", text="nothing"), Document(id="new", text="amber")])
        writer.delete(["doc-4"])
        writer.compact(full=True)
        hits = reader.search("amber rare17", 100, ids=wanted)
        assert {hit.id: hit.score for hit in hits} == {id_: before[id_] for id_ in ("doc-4", "doc-40", "doc-17")}
        with pytest.raises(InvalidIdError):
            reader.search("amber", ids=["doc-4", ""])


def test_many_ids_of_an_old_generation_are_found_in_one_walk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(folder) as reader, opened(folder) as writer:
        writer.delete(["doc-2"])
        reads: list[str] = []
        read = entries.read_exactly

        def counted(path: Path, offset: int, size: int) -> bytes:
            reads.append(path.name)
            return read(path, offset, size)

        monkeypatch.setattr(entries, "read_exactly", counted)
        assert len(reader.search("amber", 60, ids=[f"doc-{number}" for number in range(60)])) == 60
        assert len(reads) == 2 * len(reader.manifest.segments)


def test_an_index_that_grows_gets_centroids_and_keeps_its_scores(folder: Path, tmp_path: Path) -> None:
    words = [f"fresh{number}" for number in range(40)]
    new = [Document(id=f"new-{number}", text=" ".join(words[number % 30 : number % 30 + 10])) for number in range(200)]
    with opened(folder) as index:
        before, centroids = scores(index), index.stats().centroids
        report = index.add(new)
        assert report.centroids == index.stats().centroids - centroids > 0
        assert index.manifest.codebook == "codebook-000002"
        for old, grown in zip(before, scores(index), strict=True):
            found = {id_: score for id_, score in grown.items() if id_ in old}
            assert found == {id_: old[id_] for id_ in found}, "no old record changed, nor what it decodes to"
        hits = index.search("fresh3 fresh4 fresh5", 10, params=SearchParams(exact=False))
        assert all(hit.score == pytest.approx(3, abs=0.1) for hit in hits)
        index.delete(["new-3"])
        index.add([Document(id="one", text="amber")])
        assert index.manifest.codebook == "codebook-000002", "one document is no reason for a new codebook"
        drift = Drift.from_json(index.manifest.drift or {})
        assert drift.tokens == report.tokens + 1
        assert not (folder / "codebook-000001.zarr").exists()
    assert verify_index(folder) == []


def test_what_lies_far_from_the_build_is_told(tmp_path: Path) -> None:
    alike, different = (_noisy(200, spread) for spread in (0.02, 1.0))
    Index.build_from_vectors(tmp_path / "index", [alike], BuildParams(bits=2, centroids=16))
    with Index.open(tmp_path / "index") as index:
        assert (
            index.add_vectors([replace(_noisy(20, 0.02, seed=1), ids=tuple(f"a{n}" for n in range(20)))]).advice is None
        )
        advice = index.add_vectors([replace(different, ids=tuple(f"b{n}" for n in range(200)))]).advice
        assert advice is not None
        assert "compact --retrain" in advice
        assert index.stats().centroids == 16, "a number that was asked for stays"


def _noisy(count: int, spread: float, seed: int = 0) -> TokenBatch:
    """Documents of four unit vectors each, around one of eight directions."""
    rng = np.random.default_rng(seed)
    arrays = [np.eye(8, 16)[rng.integers(0, 8, 4)] + spread * rng.standard_normal((4, 16)) for _ in range(count)]
    arrays = [(array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32) for array in arrays]
    return TokenBatch.from_arrays([str(number) for number in range(count)], arrays)


def _answers_in_child(index: Index, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    answers.put((scores(index, exact=False), "doc-3" in index))


def test_an_open_index_may_be_used_after_a_fork(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    with opened(folder) as index:
        expected = (scores(index, exact=False), True)
        answers = context.Queue()
        children = [context.Process(target=_answers_in_child, args=(index, answers)) for _ in range(2)]
        for child in children:
            child.start()
        assert [answers.get(timeout=30) for _ in children] == [expected, expected]
        for child in children:
            child.join(30)
        assert (scores(index, exact=False), "doc-3" in index) == expected
