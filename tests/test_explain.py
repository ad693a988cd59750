"""Why a document was not returned: each stage names itself, and the settings that are named do what is said of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex import BuildParams, Index, SearchParams, TokenBatch, cells
from colindex.errors import QueryError
from colindex.explain import Explanation
from colindex.fetched import fetch
from colindex.kernels import chosen as kernels
from colindex.kernels.reference.probe import scored
from colindex.search import Traced, traced
from tests.words import WORDS, WordEncoder, batches, documents

NARROW = SearchParams(nprobe=2, candidates=20, margin=0.5, exact=False)
ALL = SearchParams(nprobe=10_000, candidates=10_000, margin=np.inf, exact=False)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """1,500 documents in several segments."""
    path = tmp_path_factory.mktemp("explain") / "words.colindex"
    Index.build(path, documents(1500), WordEncoder(dim=32), BuildParams(segment_tokens=5000))
    return Index.open(path, encoder=WordEncoder(dim=32))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """800 documents of random vectors, some without any."""
    path = tmp_path_factory.mktemp("explain") / "vectors.colindex"
    Index.build_from_vectors(path, batches(800, tokens=8))
    return Index.open(path)


def refined(index: Index, query: NDArray[np.float32], k: int, params: SearchParams) -> list[int]:
    """The documents that a search refines, by number."""
    snapshot = index._open.snapshot
    search = traced(snapshot, snapshot.codebook.project(query), k, params, snapshot.live)
    return [int(document) for document in search.estimated.documents[: search.refined]]


def check(index: Index, query: NDArray[np.float32], number: int, id_: str, k: int, params: SearchParams) -> Explanation:
    """What has to hold of any explanation; `number` is the document's, through all segments."""
    found = index.explain_missing(query, id_, k, params=params)
    hits = {hit.id: (rank, hit.score) for rank, hit in enumerate(index.search_vectors(query, k, params=params), 1)}
    everything = {hit.id: hit.score for hit in index.search_vectors(query, len(index), params=SearchParams(exact=True))}
    deserved = sorted(everything.values(), reverse=True)[k - 1]
    assert found.score == everything[id_]
    assert str(found) == found.text
    assert (found.kind == "returned") == (id_ in hits)
    assert (found.kind in ("returned", "refined lower")) == (number in refined(index, query, k, params))
    if found.kind == "returned":
        assert (found.rank, found.score) == hits[id_]
        assert found.would_refine is found.advice is None
        return found
    assert found.kth == min(score for _, score in hits.values())
    if found.kind == "refined lower":
        assert found.score <= found.kth
        assert found.would_refine is found.advice is None
        return found
    assert found.would_refine is not None
    assert found.would_refine.exact == (not found.reach)  # what has vectors is met by some probe
    followed = [hit.id for hit in index.search_vectors(query, k, params=found.would_refine)]
    if not found.would_refine.exact:
        assert number in refined(index, query, k, found.would_refine)
    assert (found.advice == found.would_refine) == (id_ in followed)
    if found.score > deserved:
        assert found.advice is not None
    if found.advice is None:
        assert found.score <= deserved
        assert "no setting returns it" in found.text
    return found


@pytest.mark.parametrize("kind", ["words", "vectors"])
def test_what_is_named_brings_the_document_in(kind: str, index: Index, vectors: Index) -> None:
    rng = np.random.default_rng(3)
    which = index if kind == "words" else vectors
    seen: Counter[str] = Counter()
    for turn in range(60):
        number = int(rng.integers(len(which)))
        if kind == "words":
            query = which.encode_query(" ".join([*rng.choice(WORDS, 4).tolist(), f"rare{rng.integers(1500)}"]))
        else:
            query = rng.standard_normal((4, 16)).astype(np.float32)
        params = SearchParams(
            nprobe=int(rng.choice([1, 2, 4])),
            candidates=int(rng.choice([5, 60, 200])),
            margin=float(rng.choice([0, 0.5, 2.5])),
            exact=False,
        )
        id_ = f"doc-{number}" if kind == "words" else f"v{number}"
        seen[check(which, query, number, id_, 1 + turn % 9, params).kind] += 1
    assert {"not met", "beyond candidates", "refined lower"} <= set(seen)
    assert kind == "vectors" or seen["given up"]  # estimates of random vectors tell too little to give any up


def test_documents_that_deserve_the_answer_get_advice(index: Index) -> None:
    """The best documents of an exact search, looked for with settings that lose most of them."""
    rng = np.random.default_rng(5)
    lost: Counter[str] = Counter()
    for _ in range(30):
        query = index.encode_query(" ".join(rng.choice(WORDS, 6)))
        for hit in index.search_vectors(query, 5, params=SearchParams(exact=True)):
            params = SearchParams(nprobe=1, candidates=10, margin=0, exact=False)
            found = check(index, query, int(hit.id.removeprefix("doc-")), hit.id, 5, params)
            if found.kind != "returned":
                lost[found.kind] += 1
                assert found.advice is not None
    assert lost.total() > 10


def test_settings_refine_documents_that_estimate_alike(index: Index) -> None:
    """With one probe each estimate is a sum of the same few numbers: which comes first is decided segment by segment."""
    query = index.encode_query("amber basin cedar delta")
    params = SearchParams(nprobe=1, candidates=5, margin=0, exact=False)
    found = [check(index, query, number, f"doc-{number}", 2, params) for number in range(0, 1500, 40)]
    beyond = [one for one in found if one.kind == "beyond candidates"]
    assert len(beyond) > 5
    assert all(one.rank is not None and one.rank > 5 for one in beyond)


def test_no_search_is_tried_for_a_document_that_the_answer_outranks(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = 0

    def counted(*arguments: Any) -> Traced:
        nonlocal searches
        searches += 1
        return traced(*arguments)

    monkeypatch.setattr("colindex.explain.traced", counted)
    outranked = 0
    for number in range(0, 1500, 50):
        searches = 0
        found = index.explain_missing("amber basin cedar", f"doc-{number}", 3, params=NARROW)
        assert found.score is not None
        assert found.kth is not None
        if found.score < found.kth:
            outranked += 1
            assert searches == 1
    assert outranked > 20


def test_a_document_that_no_probe_meets_says_how_many_would(index: Index) -> None:
    query = index.encode_query("amber basin")
    snapshot = index._open.snapshot
    everywhere, _ = kernels.top_centroids(snapshot.codebook.project(query), snapshot.codebook.probes, 10_000)
    for number in range(0, 1500, 50):
        found = index.explain_missing(query, f"doc-{number}", 3, params=NARROW)
        held = set(fetch(snapshot, np.array([number])).centroids(0).tolist())
        nearest = [next(rank for rank, id_ in enumerate(row.tolist(), 1) if id_ in held) for row in everywhere]
        assert [reach.nprobe for reach in found.reach] == nearest
        assert (found.kind == "not met") == (min(nearest) > NARROW.nprobe)


def test_the_probes_that_are_named_meet_the_document_where_cells_leave_centroids_out(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "FEW", 64)
    with Index.open(index._path, encoder=WordEncoder(dim=32)) as other:
        query, snapshot = other.encode_query("amber basin"), other._open.snapshot
        probes, projected = snapshot.codebook.probes, snapshot.codebook.project(query)
        assert probes.cells is not None
        assert scored(probes, NARROW.nprobe) < len(probes.steps)
        for number in range(0, 1500, 50):
            held = set(fetch(snapshot, np.array([number])).centroids(0).tolist())
            for reach in other.explain_missing(query, f"doc-{number}", 3, params=NARROW).reach:
                token = projected[reach.query_token : reach.query_token + 1]
                assert held & set(kernels.top_centroids(token, probes, reach.nprobe)[0][0].tolist())


def test_reach_names_the_query_tokens_and_the_closest_vectors(index: Index) -> None:
    found = index.explain_missing("delta rare4", "doc-4", params=NARROW)
    match = index.inspect("delta rare4", "doc-4")
    assert [reach.text for reach in found.reach] == ["delta", "rare4"]
    assert [reach.similarity for reach in found.reach] == match.similarities.max(axis=1).tolist()
    assert found.reach[1].similarity > 0.9


def test_each_stage_is_told_in_words(index: Index) -> None:
    told: dict[str, str] = {}
    for number in range(150):
        params = NARROW if number % 2 else SearchParams(nprobe=8, candidates=500, margin=0, exact=False)
        found = index.explain_missing("amber basin cedar", f"doc-{number}", 3, params=params)
        told[found.kind] = found.text
    assert "at rank" in index.explain_missing("rare7", "doc-7", params=NARROW).text
    assert "No probed centroid holds" in told["not met"]
    assert "nprobe" in told["not met"]
    assert "beyond the" in told["beyond candidates"]
    assert "no setting returns it" in told["refined lower"]
    assert "(margin)" in told["given up"]


def test_where_everything_is_scored_only_the_score_counts(index: Index) -> None:
    params = SearchParams(exact=True)
    ranking = [hit.id for hit in index.search("amber basin", len(index), params=params)]
    for rank in (1, 10, 11, 700, 1500):
        found = index.explain_missing("amber basin", ranking[rank - 1], 10, params=params)
        assert (found.rank, found.kind) == (rank, "returned" if rank <= 10 else "refined lower")
        assert found.advice is found.would_refine is None


def test_all_probes_and_candidates_agree_with_exact(index: Index) -> None:
    for number in range(0, 1500, 300):
        id_ = f"doc-{number}"
        wide = index.explain_missing("amber basin", id_, 10, params=ALL)
        exact = index.explain_missing("amber basin", id_, 10, params=SearchParams(exact=True))
        assert (wide.kind, wide.rank, wide.score, wide.kth) == (exact.kind, exact.rank, exact.score, exact.kth)


def test_an_unknown_id_is_absent(index: Index) -> None:
    found = index.explain_missing("amber", "nowhere")
    assert (found.kind, found.score, found.advice) == ("absent", None, None)
    assert "'nowhere'" in found.text


def test_a_filter_that_leaves_it_out_is_named(index: Index) -> None:
    found = index.explain_missing("amber", "doc-1", ids=["doc-2", "doc-3"])
    assert (found.kind, found.rank, found.advice) == ("filtered", None, None)
    assert found.score == index.inspect("amber", "doc-1").score
    assert "2 of 1,500" in found.text
    assert index.explain_missing("amber", "doc-2", ids=["doc-2", "doc-3"]).kind == "returned"


def test_ranks_count_the_documents_of_the_selection(index: Index) -> None:
    query = index.encode_query("amber basin cedar delta")
    ids = [f"doc-{number}" for number in range(0, 1500, 3)]
    for number in range(0, 1500, 90):
        for params in (NARROW, SearchParams(exact=True)):
            found = index.explain_missing(query, f"doc-{number}", 5, params=params, ids=ids)
            hits = [hit.id for hit in index.search_vectors(query, 5, params=params, ids=ids)]
            assert (found.kind == "returned") == (f"doc-{number}" in hits)
            assert found.rank is None or found.rank <= 500
            if found.would_refine is not None:
                followed = [hit.id for hit in index.search_vectors(query, 5, params=found.would_refine, ids=ids)]
                assert (found.advice is not None) == (f"doc-{number}" in followed)


def test_deleted_documents_are_absent_and_in_nobodys_way(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(300), WordEncoder(), BuildParams(segment_tokens=1000))
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        best = [hit.id for hit in index.search("amber basin", 6)]
        assert index.explain_missing("amber basin", best[5], 3).kind == "refined lower"
        index.delete(best[:5])
        assert index.explain_missing("amber basin", best[0], 3).kind == "absent"
        found = index.explain_missing("amber basin", best[5], 3, params=NARROW)
        assert found.kind == "returned" or found.advice is not None


def test_documents_and_queries_without_vectors(vectors: Index) -> None:
    batch = batches(800, tokens=8)[0]
    empty = batch.ids[int(np.flatnonzero(np.diff(batch.offsets) == 0)[0])]
    query = np.ones((2, 16), np.float32)
    found = vectors.explain_missing(query, empty, 3, params=NARROW)
    assert (found.kind, found.score, found.reach, found.advice) == ("not met", -np.inf, (), None)
    asked_nothing = vectors.explain_missing(np.empty((0, 16), np.float32), "v5", 3, params=NARROW)
    assert asked_nothing.score in (0.0, -np.inf)


def test_values_for_json_are_finite() -> None:
    wide = SearchParams(margin=np.inf)
    found = Explanation("a", "not met", "lost", 3, NARROW, score=-np.inf, would_refine=wide)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (data["kind"], data["score"], data["advice"]) == ("not met", None, None)
    assert SearchParams(**data["would_refine"]) == SearchParams(margin=np.finfo(np.float64).max)


def test_one_document_is_always_returned(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("one") / "i"
    Index.build_from_vectors(path, [TokenBatch.from_arrays(["a"], [np.eye(8, dtype=np.float32)])])
    with Index.open(path) as one:
        for params in (NARROW, SearchParams()):
            found = one.explain_missing(np.ones((1, 8), np.float32), "a", params=params)
            assert (found.kind, found.rank, found.kth) == ("returned", 1, None)


def test_wrong_questions_are_refused(index: Index) -> None:
    with pytest.raises(QueryError, match="k"):
        index.explain_missing("amber", "doc-1", 0)
