"""Retraining: of texts the index that a build of its documents would make; of vectors nearly the vectors that there were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex import BuildParams, Document, Index, SearchParams, TokenBatch
from colindex.compact import compact
from colindex.errors import EncoderMismatchError
from colindex.progress import Progress
from colindex.storage.catalog import Catalog
from colindex.storage.checksums import FileSum
from colindex.storage.layout import next_codebook, stray_paths
from colindex.storage.manifest import Manifest
from colindex.storage.plain import within
from colindex.storage.verify import verify_index
from tests.faults import Failure, FaultyOperations, using
from tests.oracles import exact_maxsim
from tests.words import WordEncoder, batches, documents

QUERIES = ["amber cedar", "rare17 delta", "title3 zephyr rare45", "new3 harbor"]
EVERY = SearchParams(exact=True)


def opened(folder: Path) -> Index:
    return Index.open(folder, encoder=WordEncoder())


def changed(folder: Path, params: BuildParams) -> list[Document]:
    """Build an index, and change it; the documents that it then holds, in their order."""
    first = documents(50)
    new = [
        replace(document, id=f"new-{document.id}", text=f"{document.text} new{document.id[4:]}")
        for document in documents(30, 3)
    ]
    again = Document(id="doc-4", text="amber again")
    Index.build(folder, first, WordEncoder(), params)
    with opened(folder) as index:
        index.add([*new, Document(id="empty", text="")])
        index.upsert([again])
        index.delete(["doc-1", "doc-30", "new-doc-7"])
    gone = {"doc-1", "doc-30", "new-doc-7", "doc-4"}
    return [document for document in [*first, *new, Document(id="empty", text="")] if document.id not in gone] + [again]


def manifest_of(folder: Path) -> Manifest:
    with Catalog.open_reader(folder) as catalog:
        return catalog.manifest()


def projection_of(index: Index) -> dict[str, FileSum]:
    """Its files, with their sums."""
    files = within(index.manifest.codebook_files, "projection")
    assert files
    return files


def hits(index: Index, queries: Sequence[str] = QUERIES) -> list[list[tuple[str, float]]]:
    return [[(hit.id, hit.score) for hit in index.search(query, 200, params=EVERY)] for query in queries]


@pytest.mark.parametrize(
    "params",
    [BuildParams(), BuildParams(pool_factor=2, bits=4, dim=8), BuildParams(segment_tokens=200, sample_tokens=100)],
    ids=["plain", "pooled to fewer dimensions", "several segments, a sample"],
)
def test_an_index_of_texts_becomes_the_one_that_a_build_would_make(tmp_path: Path, params: BuildParams) -> None:
    left = changed(tmp_path / "index", params)
    Index.build(tmp_path / "fresh", left, WordEncoder(), params)
    with opened(tmp_path / "index") as index:
        before = index.manifest
        report = index.compact(retrain=True)
        after, fresh = index.manifest, manifest_of(tmp_path / "fresh")
        assert after.codebook == next_codebook(before.codebook)
        assert [info.files for info in after.segments] == [info.files for info in fresh.segments], "the same bytes"
        assert after.codebook_files == fresh.codebook_files
        assert (after.documents, after.tokens, after.tombstones, after.drift) == (len(left), fresh.tokens, {}, None)
        assert after.generation == report.generation == before.generation + 1, "one commit"
        assert (report.documents, report.dropped) == (len(left), 4)
        assert report.runs[0].outputs == tuple(info.documents for info in after.segments)
        assert stray_paths(tmp_path / "index", after) == []
    assert verify_index(tmp_path / "index") == []


def test_texts_without_their_encoder_are_coded_anew_from_their_vectors(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    left = changed(folder, BuildParams(bits=8))
    with opened(folder) as index:
        codebook = index.manifest.codebook
        before, texts = hits(index), {hit.id: hit.document for hit in index.search("amber", 200)}
        inspected = index.inspect("amber cedar", "doc-3")
    report = compact(folder, retrain=True)
    assert (report.documents, report.dropped, report.segments_after) == (len(left), 4, 1)
    with opened(folder) as index:
        assert index.manifest.codebook == next_codebook(codebook)
        for old, new in zip(before, hits(index), strict=True):
            assert dict(new) == pytest.approx(dict(old), abs=0.05)
        assert {hit.id: hit.document for hit in index.search("amber", 200)} == texts
        match = index.inspect("amber cedar", "doc-3")
        assert np.array_equal(match.stored, inspected.stored)
        assert (str(match.spans), str(match.token_ids)) == (str(inspected.spans), str(inspected.token_ids))
        assert [hit.id for hit in index.search("amber", where="number = 3")] == ["doc-3", "new-doc-3"]
        index.add([Document(id="later", text="zephyr rare999")])
        assert index.search("rare999", k=1)[0].id == "later"
    assert verify_index(folder) == []


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths)


@pytest.mark.parametrize("pool_factor", [1, 2])
def test_vectors_are_decoded_and_coded_once_more(tmp_path: Path, pool_factor: int) -> None:
    """As good as before, or nearly: held against the vectors that were handed in."""
    folder = tmp_path / "index"
    Index.build_from_vectors(
        folder, batches(80, tokens=6), BuildParams(bits=8, pool_factor=pool_factor, sample_tokens=150)
    )
    (late,) = batches(40, seed=1, tokens=6)
    late = replace(
        late, ids=tuple(f"late-{id_}" for id_ in late.ids), token_ids=np.arange(len(late.vectors), dtype=np.int32) % 9
    )
    queries = [unit(np.random.default_rng(seed).standard_normal((4, 16)).astype(np.float32)) for seed in range(8)]
    with Index.open(folder) as index:
        index.add_vectors([late])
        index.delete(["v3", "v4", "late-v0"])
        before = [{hit.id: hit.score for hit in index.search_vectors(query, 200, params=EVERY)} for query in queries]
        projection = projection_of(index)
        report = index.compact(retrain=True)
        after = [{hit.id: hit.score for hit in index.search_vectors(query, 200, params=EVERY)} for query in queries]
        assert (report.documents, report.segments_after) == (117, 2), "those with token ids apart"
        assert projection_of(index) == projection
    for old, new in zip(before, after, strict=True):
        assert new == pytest.approx(old, abs=0.05)
    if pool_factor == 1:
        scores = exact_maxsim(queries[0], late.vectors.astype(np.float32), late.offsets)
        exact = {id_: score for id_, score in zip(late.ids, scores, strict=True) if id_ != "late-v0"}
        assert {id_: after[0][id_] for id_ in exact} == pytest.approx(exact, abs=0.05)
    assert verify_index(folder) == []


def test_what_coding_twice_loses_and_what_comes_after_it_gains(tmp_path: Path) -> None:
    """Built of vectors about one axis, then given all others: what the old codes lost stays lost, what comes then loses less."""
    rng = np.random.default_rng(0)
    folder, dim = tmp_path / "index", 32

    def batch(count: int, spread: float, prefix: str) -> TokenBatch:
        centre = np.zeros(dim, np.float32)
        centre[0] = 1
        arrays = [unit((centre + spread * rng.standard_normal((8, dim))).astype(np.float32)) for _ in range(count)]
        return TokenBatch.from_arrays([f"{prefix}{number}" for number in range(count)], arrays)

    narrow, wide, later = batch(30, 0.02, "narrow"), batch(300, 5.0, "wide"), batch(200, 5.0, "later")
    starts = range(0, len(later.vectors) - 4, 80)
    noise = rng.standard_normal((len(starts), 4, dim)).astype(np.float32)
    queries = [later.vectors[start : start + 4] + 0.1 * each for start, each in zip(starts, noise, strict=True)]

    def recall(index: Index) -> float:
        found = 0
        for query in queries:
            best = np.argsort(-exact_maxsim(query, later.vectors, later.offsets))[:10]
            hits = index.search_vectors(query, 10, params=EVERY, ids=later.ids)
            found += len({later.ids[number] for number in best} & {hit.id for hit in hits})
        return found / (10 * len(queries))

    Index.build_from_vectors(folder, [narrow], BuildParams(bits=2))
    with Index.open(folder) as index:
        index.add_vectors([wide])
        index.add_vectors([later])
        before, centroids = recall(index), index.stats().centroids
        index.compact(retrain=True)
        coded_twice = recall(index)
        assert before - 0.15 < coded_twice < before, "random vectors at two bits: the worst case"
        assert index.stats().centroids > centroids
        index.upsert_vectors([later])
        assert recall(index) > before
    assert verify_index(folder) == []


def test_what_a_dry_run_says(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    left = changed(folder, BuildParams(segment_tokens=200))
    before = manifest_of(folder)
    foreseen = compact(folder, retrain=True, dry_run=True)
    assert manifest_of(folder) == before
    report = compact(folder, retrain=True, encoder=WordEncoder())
    assert sum(foreseen.runs[0].outputs) == sum(report.runs[0].outputs) == len(left)
    assert foreseen.runs[0].segments == report.runs[0].segments == tuple(info.name for info in before.segments)
    assert (foreseen.bytes_read, foreseen.dropped) == (report.bytes_read, report.dropped)
    assert report.bytes_freed > report.bytes_read, "the old codebook too"


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    Index.build(folder, documents(5), WordEncoder(), BuildParams())
    before = manifest_of(folder)
    with pytest.raises(EncoderMismatchError, match="salt"):
        compact(folder, retrain=True, encoder=WordEncoder(salt=1))
    assert manifest_of(folder) == before


def test_without_vectors_there_is_nothing_to_learn(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    Index.build(folder, documents(5), WordEncoder(), BuildParams())
    with opened(folder) as index:
        index.delete([f"doc-{number}" for number in range(5)])
        report = index.compact(retrain=True)
        assert (report.segments_after, index.manifest.codebook) == (0, "codebook-000001")
        index.add(documents(3))
        for _ in range(2):
            codebook = index.manifest.codebook
            index.compact(retrain=True)
            assert (len(index), index.manifest.codebook) == (3, next_codebook(codebook))
    assert verify_index(folder) == []


def test_a_reader_keeps_the_old_codebook(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    changed(folder, BuildParams())
    with opened(folder) as reader:
        before, seen = hits(reader), list[Progress]()
        compact(folder, retrain=True, encoder=WordEncoder(), progress=seen.append)
        assert list(dict.fromkeys(step.stage for step in seen)) == ["ingest", "sample", "train", "encode"]
        encoded = [(step.done, step.total) for step in seen if step.stage == "encode"]
        assert (encoded[0], encoded[-1]) == ((0, len(reader)), (len(reader), len(reader))), "seen from its beginning"
        assert hits(reader) == before
        assert reader.reopen()
        assert [{id_ for id_, _ in found} for found in hits(reader)] == [{id_ for id_, _ in found} for found in before]


def test_killed_it_leaves_the_last_generation(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    changed(folder, BuildParams())
    before, at = manifest_of(folder), 0
    while True:
        try:
            with using(FaultyOperations(at, torn=True, dead=True)):
                compact(folder, retrain=True)
        except Failure:
            if manifest_of(folder).generation > before.generation:
                break
            assert manifest_of(folder) == before
        else:
            break
        at += 17
    assert at > 50
    assert manifest_of(folder).codebook == next_codebook(before.codebook)
    compact(folder)
    assert verify_index(folder) == []


def test_interrupted_it_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    changed(folder, BuildParams())
    before = manifest_of(folder)

    def stop(progress: Progress) -> None:
        if progress.stage == "encode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(folder, retrain=True, progress=stop)
    assert manifest_of(folder) == before
    assert not (folder / "retraining").exists()
    compact(folder)
    assert verify_index(folder) == []
