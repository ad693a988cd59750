"""`colindex eval`: one object, whose figures are those of the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colindex import Index
from colindex.evaluate import measure
from tests.cli.conftest import Run, word_encoder

QUERIES = {"q1": "amber rare7", "q2": "rare9", "q3": "basin", "q4": "nobody judged this"}
QRELS = {"q1": {"doc-7": 1}, "q2": {"doc-9": 2, "doc-1": 0}, "q3": {"doc-3": 1, "gone": 1}, "q9": {"doc-1": 1}}


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps({"_id": id_, "text": text}) + "\n" for id_, text in QUERIES.items()))
    return path


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    path = tmp_path / "test.tsv"
    rows = [f"{query}\t{document}\t{grade}\n" for query, judged in QRELS.items() for document, grade in judged.items()]
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return path


def test_json_is_exactly_one_object(run: Run, index_path: Path, queries: Path, qrels: Path) -> None:
    result = run("eval", index_path, "--queries", queries, "--qrels", qrels, "--exact", "--format", "json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert list(facts) == ["ndcg@10", "recall@100", "mrr@10", "queries", "latency_ms", "encode_ms"]
    assert list(facts["latency_ms"]) == list(facts["encode_ms"]) == ["p50", "p95", "p99"]
    assert 0 < facts["latency_ms"]["p50"] <= facts["latency_ms"]["p99"]
    assert facts["queries"] == 3

    with Index.open(index_path, encoder=word_encoder()) as index:
        judged = {id_: QRELS[id_] for id_ in ("q1", "q2", "q3")}
        ranked = {id_: [hit.id for hit in index.search(QUERIES[id_], k=100)] for id_ in judged}
    assert {name: facts[name] for name in ("ndcg@10", "recall@100", "mrr@10")} == measure(ranked, judged)


def test_what_was_left_out_is_said_on_stderr(run: Run, index_path: Path, queries: Path, qrels: Path) -> None:
    result = run("eval", index_path, "--queries", queries, "--qrels", qrels, "-k", "20")
    assert "Left out 1 query without judgements." in result.stderr
    assert "Left out the judgements of 1 query that the query file does not have." in result.stderr
    assert "With -k 20, every measure sees only the first 20 documents." in result.stderr
    assert "ndcg@10" in result.stdout
    assert "latency_ms.p95" in result.stdout


def test_trec_qrels_and_tsv_queries(run: Run, index_path: Path, tmp_path: Path, queries: Path, qrels: Path) -> None:
    (tmp_path / "q.tsv").write_text("".join(f"{id_}\t{text}\n" for id_, text in QUERIES.items()))
    rows = [f"{q} 0 {document} {grade}\n" for q, judged in QRELS.items() for document, grade in judged.items()]
    (tmp_path / "q.qrels").write_text("".join(rows))
    values = [
        json.loads(run("eval", index_path, "--queries", asked, "--qrels", judged, "--format", "json").stdout)["ndcg@10"]
        for asked, judged in ((queries, qrels), (tmp_path / "q.tsv", tmp_path / "q.qrels"))
    ]
    assert values[0] == values[1]


def test_qrels_of_another_collection(run: Run, index_path: Path, tmp_path: Path, queries: Path) -> None:
    (tmp_path / "other.tsv").write_text("7\td\t1\n")
    result = run("eval", index_path, "--queries", queries, "--qrels", tmp_path / "other.tsv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the judgements name no known query" in result.stderr


def test_missing_files_are_wrong_usage(run: Run, index_path: Path, tmp_path: Path, queries: Path) -> None:
    assert run("eval", index_path, "--queries", queries, "--qrels", tmp_path / "gone").exit_code == 2
