"""Search against the exact oracle, through real index folders."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex import BuildParams, Index, SearchParams, TokenBatch
from colindex.errors import CorruptIndexError, ParameterError, QueryError, VectorError
from colindex.generation import Generation
from tests.oracles import exact_maxsim
from tests.words import WORDS, WordEncoder, batches, documents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 documents in several segments."""
    path = tmp_path_factory.mktemp("search") / "words.colindex"
    Index.build(path, documents(1500), WordEncoder(), BuildParams(bits=8, segment_tokens=3000))
    return path


@pytest.fixture(scope="module")
def index(folder: Path) -> Index:
    return Index.open(folder, encoder=WordEncoder())


def queries(count: int = 12) -> list[str]:
    rng = np.random.default_rng(5)
    return [" ".join(rng.choice(WORDS, 4)) + f" rare{rng.integers(600)}" for _ in range(count)]


def test_a_document_is_found_by_a_word_that_only_it_has(index: Index) -> None:
    assert len(index.manifest.segments) > 2
    for number in (0, 299, 1499):
        hits = index.search(f"rare{number}", k=1)
        assert hits[0].id == f"doc-{number}"
        assert hits[0].score == pytest.approx(1.0, abs=0.02)
        assert hits[0].document.metadata == {"number": number}
        assert hits[0].document.title == f"title{number % 7}"


def test_exact_search_agrees_with_the_oracle(index: Index) -> None:
    encoder = WordEncoder()
    batch = encoder.encode_documents(documents(1500))
    for text in queries():
        expected = exact_maxsim(encoder.encode_query(text), batch.vectors.astype(np.float32), batch.offsets)
        hits = index.search(text, k=20, params=SearchParams(exact=True))
        got = np.array([hit.score for hit in hits])
        assert np.allclose(got, np.sort(expected)[::-1][:20], atol=0.05)
        for hit in hits:
            assert hit.score == pytest.approx(expected[int(hit.id.removeprefix("doc-"))], abs=0.05)


def test_probing_everything_equals_exact_bit_for_bit(index: Index) -> None:
    wide = SearchParams(nprobe=10_000, candidates=10_000, exact=False)
    for text in queries():
        assert index.search(text, params=wide) == index.search(text, params=SearchParams(exact=True))


def test_default_search_finds_nearly_all_of_the_exact_top_ten(index: Index) -> None:
    found = 0
    for text in queries():
        exact = {hit.id for hit in index.search(text, params=SearchParams(exact=True))}
        found += len(exact & {hit.id for hit in index.search(text, params=SearchParams(exact=False))})
    assert found >= 0.9 * 10 * len(queries())


@pytest.mark.parametrize("k", [1, 10, 599, 1500, 5000])
@pytest.mark.parametrize("exact", [True, False])
def test_k_hits_come_back_when_k_documents_exist(index: Index, k: int, exact: bool) -> None:
    hits = index.search("amber", k=k, params=SearchParams(nprobe=1, candidates=1, exact=exact))
    assert len(hits) == min(k, 1500)
    assert len({hit.id for hit in hits}) == len(hits)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_ties_break_by_document_order(tmp_path: Path) -> None:
    vectors = np.eye(8, dtype=np.float32)[[0, 1, 0, 1, 0]]
    batch = TokenBatch(ids=("e", "d", "c", "b", "a"), vectors=vectors, offsets=np.arange(6))
    Index.build_from_vectors(tmp_path / "i", [batch], BuildParams(bits=8))
    with Index.open(tmp_path / "i") as index:
        assert [hit.id for hit in index.search_vectors(np.eye(8, dtype=np.float32)[:1], k=5)] == [
            "e",
            "c",
            "a",
            "d",
            "b",
        ]


def test_one_search_does_not_change_another(folder: Path) -> None:
    texts = queries()
    with Index.open(folder, encoder=WordEncoder()) as fresh:
        first = [fresh.search(text) for text in texts]
        fresh.search("amber", k=500, params=SearchParams(nprobe=3, candidates=7))
        assert [fresh.search(text) for text in reversed(texts)] == first[::-1]


def test_cache_size_threads_and_batches_do_not_change_answers(folder: Path) -> None:
    texts = queries()
    params = SearchParams(exact=False)
    answers = []
    for memory, threads in (("64MiB", 1), ("512MiB", 2)):
        with Index.open(folder, encoder=WordEncoder(), memory=memory, threads=threads) as index:
            answers.append([index.search(text, params=params) for text in texts])
            answers.append([index.search(text, params=params) for text in texts])  # now from the cache
            answers.append(index.search_batch(texts, params=params))
            answers.append([index.search_vectors(index.encode_query(text), params=params) for text in texts])
    assert all(answer == answers[0] for answer in answers)
    with Index.open(folder, encoder=WordEncoder(), threads=2) as index:
        exact = SearchParams(exact=True)
        assert index.search_batch(texts, params=exact) == [index.search(text, params=exact) for text in texts]


def test_a_query_that_takes_long_holds_up_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first query waits until all others have been begun: by the other thread, whichever they are."""
    with Index.open(folder, encoder=WordEncoder(), threads=2) as index:
        vectors = [index.encode_query(text) for text in queries(9)]
        begun, project = threading.Semaphore(0), Generation.project

        def projected(self: Generation, query: NDArray[np.float32]) -> NDArray[np.float32]:
            if query is vectors[0]:
                for _ in vectors[1:]:
                    assert begun.acquire(timeout=60)
            else:
                begun.release()
            return project(self, query)

        expected = [index.search_vectors(query, params=SearchParams(exact=False)) for query in vectors]
        monkeypatch.setattr(Generation, "project", projected)
        assert index.search_vectors_batch(vectors, params=SearchParams(exact=False)) == expected


def test_after_a_query_that_fails_no_more_are_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Index.open(folder, encoder=WordEncoder(), threads=2) as index:
        bad, good = np.full((1, 16), np.nan, np.float32), index.encode_query("amber")
        begun, project = [], Generation.project

        def projected(self: Generation, query: NDArray[np.float32]) -> NDArray[np.float32]:
            begun.append(query)
            return project(self, query)

        monkeypatch.setattr(Generation, "project", projected)
        with pytest.raises(QueryError, match="finite"):
            index.search_vectors_batch([good, bad, *[good] * 3000], params=SearchParams(exact=False))
        assert len(begun) < 1500


def test_segments_do_not_change_answers(tmp_path: Path) -> None:
    answers = []
    for name, segment_tokens in (("one", 8_000_000), ("many", 700)):
        Index.build(tmp_path / name, documents(1100), WordEncoder(), BuildParams(segment_tokens=segment_tokens))
        with Index.open(tmp_path / name, encoder=WordEncoder()) as index:
            answers.append([index.search(text, k=15, params=SearchParams(exact=False)) for text in queries()])
    assert answers[0] == answers[1]


def test_a_score_does_not_depend_on_the_other_documents_of_the_answer(index: Index) -> None:
    for text in queries(4):
        long = {hit.id: hit.score for hit in index.search(text, k=700)}
        for hit in index.search(text, k=3):
            assert long[hit.id] == hit.score


def test_empty_documents_come_last(tmp_path: Path) -> None:
    texts = [
        *documents(30),
        *(document.__class__(id=f"empty-{n}", text=" ..." * n) for n, document in enumerate(documents(3))),
    ]
    Index.build(tmp_path / "i", texts, WordEncoder(), BuildParams())
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        for exact in (True, False):
            hits = index.search("amber rare3", k=100, params=SearchParams(exact=exact))
            assert len(hits) == 33
            assert [hit.id for hit in hits[-3:]] == ["empty-0", "empty-1", "empty-2"]
            assert all(hit.score == -np.inf for hit in hits[-3:])


def test_a_query_without_tokens_still_gets_k_hits(index: Index) -> None:
    for exact in (True, False):
        hits = index.search("", k=3, params=SearchParams(exact=exact))
        assert [hit.id for hit in hits] == ["doc-0", "doc-1", "doc-2"]
        assert all(hit.score == 0.0 for hit in hits)


def test_stats_say_what_was_done(folder: Path) -> None:
    with Index.open(folder, encoder=WordEncoder()) as index:
        params = SearchParams(exact=False, candidates=64)
        _, cold = index.search_with_stats("amber cedar", params=params)
        assert set(cold.seconds) == {"encode", "probe", "gather", "fetch", "refine"}
        assert cold.bytes_read > 0
        assert cold.cache_misses > 0
        assert 10 <= cold.candidates <= 64
        assert cold.gathered >= cold.candidates
        assert cold.postings >= cold.gathered
        assert cold.prefetch_hits == cold.cache_misses
        _, warm = index.search_with_stats("amber cedar", params=params)
        assert warm.bytes_read == warm.cache_misses == 0
        assert warm.cache_hits == cold.cache_misses + cold.cache_hits


@pytest.mark.parametrize("k", [0, -1, True, 1.5, "3"])
def test_a_bad_k_is_refused(index: Index, k: object) -> None:
    with pytest.raises(QueryError, match="at least 1"):
        index.search("amber", k=k)  # type: ignore[arg-type]


def test_bad_query_vectors_are_refused(index: Index) -> None:
    with pytest.raises(VectorError, match=r"\[tokens, 16\]"):
        index.search_vectors(np.ones((2, 8), np.float32))
    with pytest.raises(VectorError, match="query vectors"):
        index.search_vectors(np.ones(16, np.float32))
    with pytest.raises(QueryError, match="finite"):
        index.search_vectors(np.full((1, 16), np.nan, np.float32))


def test_text_needs_an_encoder(folder: Path) -> None:
    with Index.open(folder) as index, pytest.raises(QueryError, match="encoder="):
        index.search("amber")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_more_bits_come_closer_to_exact_scores(tmp_path: Path, bits: int) -> None:
    data = batches(300, dim=32)
    Index.build_from_vectors(tmp_path / "i", data, BuildParams(bits=bits))
    flat = np.concatenate([batch.vectors for batch in data])
    offsets = np.cumsum([0, *(size for batch in data for size in np.diff(batch.offsets))])
    query = np.random.default_rng(1).standard_normal((6, 32)).astype(np.float32)
    expected = exact_maxsim(query, flat, offsets)
    with Index.open(tmp_path / "i") as index:
        hits = index.search_vectors(query, k=300, params=SearchParams(exact=True))
    errors = [abs(hit.score - expected[int(hit.id[1:])]) for hit in hits if np.isfinite(hit.score)]
    assert np.mean(errors) < {1: 8.0, 2: 4.0, 4: 1.2, 8: 0.15}[bits]


def test_a_wider_margin_refines_more_and_an_infinite_one_all_candidates(folder: Path) -> None:
    with Index.open(folder, encoder=WordEncoder()) as index:
        refined = []
        for margin in (0, 1.0, 2.5, 6.0, float("inf")):
            params = SearchParams(exact=False, candidates=400, margin=margin)
            refined.append([index.search_with_stats(text, params=params)[1].candidates for text in queries()])
    assert all(fewer <= more for fewer, more in zip(refined[0], refined[-1], strict=True))
    totals = [sum(row) for row in refined]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]
    assert set(refined[-1]) == {400}


@pytest.mark.parametrize("margin", [-1, float("nan"), "2", True, None])
def test_a_margin_is_a_number_of_deviations(margin: object) -> None:
    with pytest.raises(ParameterError, match="margin"):
        SearchParams(margin=margin)  # type: ignore[arg-type]


@pytest.mark.parametrize("exact", [False, True])
def test_a_record_of_another_codebook_is_an_error_of_ours(
    folder: Path, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index.open(folder, encoder=WordEncoder()) as index:
        codebook = index._open.snapshot.codebook
        codes = codebook.codes
        fewer = replace(codebook, codes=codes._replace(centroids=codes.centroids[:1], steps=codes.steps[:1]))
        monkeypatch.setattr(index._open, "snapshot", replace(index._open.snapshot, codebook=fewer))
        with pytest.raises(CorruptIndexError, match="verify"):
            index.search("amber cedar", params=SearchParams(exact=exact))
