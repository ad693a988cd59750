"""The API: answers are the library's, errors are problem objects with its messages, nothing crosses limits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from colindex import Document, Index, SearchParams
from colindex.serve.shapes import Explained, Found, Health, IndexFacts, MatchData, Problem
from tests.serve.conftest import STRANGE
from tests.words import WordEncoder, documents

QUERY = "amber rare7"


def found(client: TestClient, **form: Any) -> dict[str, Any]:
    response = client.post("/api/search", json={"query": QUERY, **form})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    Found.model_validate(answer)
    return answer


def refused(client: TestClient, path: str, form: dict[str, Any], status: int) -> dict[str, Any]:
    response = client.post(path, json=form)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    Problem.model_validate(problem)
    assert problem["status"] == status
    return problem


@pytest.mark.parametrize("unit", ["document", "sentence"])
def test_hits_are_those_of_the_library(client: TestClient, index: Index, unit: Any) -> None:
    answer = found(client, k=7, unit=unit)
    hits = index.search(QUERY, 7, unit=unit)
    assert [(row["rank"], row["id"]) for row in answer["hits"]] == [(at, hit.id) for at, hit in enumerate(hits, 1)]
    assert [row["score"] for row in answer["hits"]] == pytest.approx([hit.score for hit in hits])
    assert [row["title"] for row in answer["hits"]] == [hit.document.title for hit in hits]
    if unit == "sentence":
        assert [row["span"] for row in answer["hits"]] == [list(hit.span) for hit in hits if hit.span]


def test_settings_reach_the_search(client: TestClient, index: Index) -> None:
    where, ids = "number < 20", ["doc-1", "doc-7", "doc-30"]
    answer = found(client, k=50, where=where, ids=ids, nprobe=2, candidates=9, margin=0.5, exact=True)
    params = SearchParams(nprobe=2, candidates=9, margin=0.5, exact=True)
    assert [row["id"] for row in answer["hits"]] == [
        hit.id for hit in index.search(QUERY, 50, where=where, ids=ids, params=params)
    ]
    assert {row["id"] for row in answer["hits"]} == {"doc-1", "doc-7"}


def test_time_is_told_by_stage(client: TestClient) -> None:
    answer = found(client)
    assert {"encode", "fetch", "refine", "snippets"} <= set(answer["seconds"])
    assert all(seconds >= 0 for seconds in answer["seconds"].values())
    assert sum(answer["seconds"].values()) == pytest.approx(answer["total_seconds"], rel=0.01)
    assert answer["counters"]["candidates"] == 64


def test_strange_texts_and_metadata_come_whole(client: TestClient, index: Index) -> None:
    rows = {row["id"]: row for row in found(client, query="amber wonder", k=100)["hits"]}
    for document in STRANGE:
        row = rows[document.id]
        assert (row["title"], row["metadata"]) == (document.title, dict(document.metadata))
        assert "".join(piece["text"] for piece in row["snippet"]) == document.text
    assert (rows["empty"]["score"], rows["empty"]["snippet"]) == (None, [])


def test_a_match_is_that_of_the_library(client: TestClient, index: Index) -> None:
    expected = index.inspect(QUERY, "doc-7").to_dict()
    asked = {"query": QUERY, "id": "doc-7"}
    for response in (client.get("/api/inspect", params=asked), client.post("/api/inspect", json=asked)):
        assert response.json() == expected
        MatchData.model_validate(response.json())
    assert client.post("/api/inspect", json={**asked, "exact": False}).json()["exact"] is None


def test_advice_brings_the_document_in(client: TestClient) -> None:
    form = {"query": QUERY, "k": 5, "nprobe": 1, "candidates": 1, "margin": 0.0, "exact": False}
    returned = {row["id"] for row in found(client, **form)["hits"]}
    told = [client.post("/api/explain", json={**form, "id": f"doc-{number}"}).json() for number in range(60)]
    for one in told:
        Explained.model_validate(one)
        assert (one["kind"] == "returned") == (one["id"] in returned)
    advised = [one for one in told if one["advice"]]
    assert advised
    for one in advised[:5]:
        settings = {name: one["advice"][name] for name in ("nprobe", "candidates", "margin", "exact")}
        assert one["id"] in {row["id"] for row in found(client, **{**form, **settings})["hits"]}


def test_an_unknown_id_is_explained_but_not_inspected(client: TestClient) -> None:
    form = {"query": QUERY, "id": "gone"}
    assert client.post("/api/explain", json=form).json()["kind"] == "absent"
    problem = refused(client, "/api/inspect", form, 404)
    assert (problem["error"], problem["field"]) == ("DocumentNotFoundError", "id")
    assert "'gone'" in problem["detail"]


def test_the_index_is_described(client: TestClient, index: Index) -> None:
    facts = client.get("/api/index").json()
    IndexFacts.model_validate(facts)
    assert facts["name"] == "words.colindex"
    assert (facts["documents"], facts["generation"]) == (60 + len(STRANGE), 1)
    assert facts["resident_bytes"] <= facts["budget"] == index.stats().budget
    assert facts["columns"] == ["id", "title", "number", "html", "a list"]


def test_a_bad_filter_is_told_in_the_words_of_the_library(client: TestClient, index: Index) -> None:
    problem = refused(client, "/api/search", {"query": QUERY, "where": "nubmer > 3"}, 400)
    assert (problem["error"], problem["field"]) == ("FilterError", "where")
    with pytest.raises(ValueError, match="nubmer") as expected:
        index.search(QUERY, where="nubmer > 3")
    assert problem["detail"] == str(expected.value)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "query"),
        ({"query": "  "}, "query"),
        ({"query": 3}, "query"),
        ({"query": "x" * 10_000}, "query"),
        ({"query": "a", "k": 0}, "k"),
        ({"query": "a", "k": 1_001}, "k"),
        ({"query": "a", "nprobe": 2**21}, "nprobe"),
        ({"query": "a", "margin": -1}, "margin"),
        ({"query": "a", "unit": "page"}, "unit"),
        ({"query": "a", "ids": [""]}, "ids.0"),
        ({"query": "a", "ids": "doc-1"}, "ids"),
        ({"query": "a", "nonsense": 1}, "nonsense"),
    ],
)
def test_a_wrong_form_is_told_by_field(client: TestClient, form: dict[str, Any], field: str) -> None:
    problem = refused(client, "/api/search", form, 422)
    assert problem["field"] == field
    assert problem["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b"\xff", 400),
        (b'{"query": "\\ud800"}', 422),
        (b'{"query": "a", "ids": ["\\ud800"]}', 422),
        (b'{"query": "a", "where": "\\ud800 = 1"}', 422),
        (b'{"query": "a", "where": "\\u0000"}', 400),
        (b'{"query": "a", "margin": NaN}', 422),
        (b'{"query": "a", "k": 1e400}', 422),
        (b"[" * 100_000, 400),
    ],
)
def test_broken_bodies_are_the_senders_fault(client: TestClient, body: bytes, status: int) -> None:
    response = client.post("/api/search", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    Problem.model_validate(response.json())


def test_what_is_no_json_is_told_as_such(client: TestClient) -> None:
    response = client.post("/api/search", content=b'{"query": dune}', headers={"content-type": "application/json"})
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, "body")
    assert problem["detail"].startswith("body: Expected JSON, got something else after character 10 (")
    assert "dune" not in response.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/api/search", 405)])
def test_no_such_route(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == response.json()["status"] == status


def test_an_error_of_the_server_tells_nothing_of_it(
    client: TestClient, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(query: str) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(index, "encode_query", broken)
    response = client.post("/api/search", json={"query": "a"})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_new_generation_appears_by_itself(tmp_path: Path) -> None:
    from tests.serve.conftest import client_of

    path = tmp_path / "grows.colindex"
    Index.build(path, documents(20), WordEncoder())
    with (
        Index.open(path, encoder=WordEncoder(), refresh=True) as served,
        client_of(served, path) as client,
        Index.open(path, encoder=WordEncoder()) as writer,
    ):
        assert found(client)["generation"] == 1
        writer.add([Document("new", "amber amber", metadata={"fresh": True})])
        answer = found(client, where="fresh", k=5)
        assert ([row["id"] for row in answer["hits"]], answer["generation"]) == (["new"], 2)
        assert client.get("/health").json()["generation"] == 2
        facts = client.get("/api/index").json()
        assert (facts["generation"], facts["columns"][-1]) == (2, "fresh")


def test_health(client: TestClient) -> None:
    health = client.get("/health").json()
    Health.model_validate(health)
    assert health["status"] == "ok"


def test_metrics_count_what_happened(client: TestClient) -> None:
    def metrics() -> dict[str, float]:
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        lines = [line for line in response.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before = metrics()
    found(client)
    refused(client, "/api/search", {}, 422)
    client.get("/a/path/of/a/scanner")
    after = metrics()

    def rise(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert rise('colindex_requests_total{method="POST",route="/api/search",status="200"}') == 1
    assert rise('colindex_requests_total{method="POST",route="/api/search",status="422"}') == 1
    assert rise('colindex_requests_total{method="GET",route="other",status="404"}') == 1
    assert rise('colindex_request_seconds_count{route="/api/search"}') == 2
    assert rise('colindex_search_stage_seconds_total{stage="encode"}') > 0
    assert rise("colindex_cache_hits_total") + rise("colindex_cache_misses_total") > 0
    assert after["colindex_documents"] == 64
    assert not any("scanner" in name for name in after)
    assert all(math.isfinite(value) for value in after.values())


def test_the_description_names_each_route_and_its_errors(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert {"/api/search", "/api/inspect", "/api/explain", "/api/index", "/health", "/metrics"} == set(
        described["paths"]
    )
    search = described["paths"]["/api/search"]["post"]["responses"]
    assert {"200", "400", "413", "422", "503", "504"} <= set(search)
    assert search["413"]["content"].keys() == {"application/problem+json"}
    assert search["413"]["content"]["application/problem+json"]["schema"]["title"] == "Problem"
