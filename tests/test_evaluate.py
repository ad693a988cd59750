"""Queries, judgements and metrics: read faithfully, measured as by hand."""

from __future__ import annotations

import gzip
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.errors import CorpusError, MissingDependencyError, ParameterError
from colindex.evaluate import (
    Query,
    judged_queries,
    measure,
    percentiles,
    read_qrels,
    read_queries,
    recall_of_exact,
)

HEADER = "query-id\tcorpus-id\tscore\n"


def _write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


# ---- queries


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"_id": "q1", "text": "one"}\n\n{"id": 2, "text": "two", "x": 1}\n', [("q1", "one"), ("2", "two")]),
        ("q1\tone\nq2\ttwo\tthree\n", [("q1", "one"), ("q2", "two")]),
        ("query-id\ttext\nq1\tone\n", [("q1", "one")]),
        ("id\tname\n", [("id", "name")]),
        ("one\n\n  two words \r\n", [("1", "one"), ("3", "two words")]),
        ("[not] json {at all}\n", [("1", "[not] json {at all}")]),
    ],
)
def test_the_first_line_decides_what_queries_look_like(
    tmp_path: Path, content: str, expected: list[tuple[str, str]]
) -> None:
    assert read_queries(_write(tmp_path / "q", content)) == tuple(Query(*pair) for pair in expected)


def test_queries_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"_id": "a", "text": "b"}\n'))
    assert read_queries(path) == (Query("a", "b"),)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "q: expected at least one query, found none"),
        ("query-id\ttext\n", "q: expected at least one query, found none"),
        ('{"_id": "a", "text": "b"}\nplain\n', "line 2, column 1: expected JSON"),
        ('{"_id": "a"}\n', "line 1: expected a field `text`"),
        ('{"_id": "a", "text": 3}\n', "line 1: expected a field `text`"),
        ('{"text": "b"}\n', "line 1: expected a field `_id` or `id`"),
        ("a\tone\nno tab\n", "line 2: expected an id, a tab and a text as on the first line"),
        ("a\t \n", "line 1: expected the text of query 'a', found none"),
        ("\tone\n", "line 1: expected an id of 1 to 511 bytes"),
        ("a\tone\nb\ttwo\na\tthree\n", "line 3: expected each query id once, got 'a' again"),
    ],
)
def test_malformed_queries_are_named(tmp_path: Path, content: str, expected: str) -> None:
    path = _write(tmp_path / "q", content)
    with pytest.raises(CorpusError) as caught:
        read_queries(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))


# ---- judgements


@pytest.mark.parametrize(
    "content",
    [
        HEADER + "q1\td 1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "q1\td 1\t2\r\nq1\td2\t0\r\n\r\nq2\td1\t-1\r\n",
        "q1\t0\td 1\t2\nq1\t0\td2\t0\nq2\t0\td1\t-1\nq1\t0\td2\t0\n",
    ],
)
def test_qrels_of_beir_and_trec_are_read_alike(tmp_path: Path, content: str) -> None:
    assert read_qrels(_write(tmp_path / "q", content)) == {"q1": {"d 1": 2, "d2": 0}, "q2": {"d1": -1}}


def test_trec_qrels_are_separated_by_any_blanks(tmp_path: Path) -> None:
    assert read_qrels(_write(tmp_path / "q", "1 0  d1 1\n1\t0 d2   0\n")) == {"1": {"d1": 1, "d2": 0}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "q: expected at least one judgement, found none"),
        (HEADER, "q: expected at least one judgement, found none"),
        (HEADER + "q1\td1\n", "line 2: expected 3 columns"),
        ("q1 0 d1 1 more\n", "line 1: expected 3 columns (query-id, corpus-id, score) or 4"),
        (HEADER + "q1\td1\thigh\n", "line 2: expected a whole number as grade, got 'high'"),
        (HEADER + "q1\td1\t0.5\n", "line 2: expected a whole number as grade, got '0.5'"),
        (HEADER + "q1\td1\t1\nq1\td1\t2\n", "line 3: query 'q1' and document 'd1' have grade 1 further up and 2 here"),
    ],
)
def test_malformed_qrels_are_named(tmp_path: Path, content: str, expected: str) -> None:
    path = _write(tmp_path / "q", content)
    with pytest.raises(CorpusError) as caught:
        read_qrels(path)
    assert expected in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone.tsv: cannot be opened \(no such file or directory\)"):
        read_qrels(tmp_path / "gone.tsv")


def test_only_judged_queries_are_kept() -> None:
    queries = [Query(id_, "text") for id_ in "cab"]
    judged = judged_queries(queries, {"a": {"d": 1}, "b": {"d": 0}, "z": {"d": 1}, "y": {"d": 1}})
    assert [query.id for query in judged.queries] == ["a", "b"]
    assert judged.qrels == {"a": {"d": 1}, "b": {"d": 0}}
    assert (judged.unjudged, judged.unknown) == (1, 2)


def test_judgements_of_another_collection_are_refused() -> None:
    with pytest.raises(
        CorpusError, match="name no known query: 1 queries such as 'a', judgements for 1 others such as '7'"
    ):
        judged_queries([Query("a", "text")], {"7": {"d": 1}})


# ---- metrics


def test_metrics_by_hand() -> None:
    qrels = {"q1": {"d1": 2, "d2": 1, "d3": 0}, "q2": {"d9": 1}, "q3": {"d1": 1}}
    run = {"q1": ["d3", "d2", "d1"], "q2": ["d9"], "other": ["d1"]}  # q3 was not answered
    first = (1 / math.log2(3) + 2 / math.log2(4)) / (2 / math.log2(2) + 1 / math.log2(3))
    values = measure(run, qrels)
    assert values["ndcg@10"] == pytest.approx((first + 1 + 0) / 3)
    assert values["recall@100"] == pytest.approx(2 / 3)
    assert values["mrr@10"] == pytest.approx((0.5 + 1 + 0) / 3)


def test_cutoffs() -> None:
    ranking = [f"d{rank}" for rank in range(1, 151)]
    values = measure({"q": ranking}, {"q": {"d11": 1, "d100": 1, "d101": 1, "gone": 1}})
    assert values == {"ndcg@10": 0.0, "recall@100": 0.5, "mrr@10": 0.0}


def test_the_order_of_the_ranking_counts_not_the_ids() -> None:
    """trec_eval would reorder equal scores by document id; nothing may reorder what was returned."""
    for ranking, expected in ((["a", "b", "c"], 1.0), (["c", "b", "a"], 1 / 3)):
        assert measure({"q": ranking}, {"q": {"a": 1}})["mrr@10"] == pytest.approx(expected)


def test_an_empty_run_scores_nothing() -> None:
    assert measure({}, {"q": {"a": 1}}) == {"ndcg@10": 0.0, "recall@100": 0.0, "mrr@10": 0.0}
    assert measure({"q": []}, {"q": {"a": 1}})["ndcg@10"] == 0.0


RANKING = st.lists(st.integers(0, 30).map(str), unique=True, max_size=25)


@given(st.dictionaries(st.sampled_from("abc"), RANKING, min_size=1), st.sets(st.integers(0, 30).map(str), min_size=1))
def test_recall_and_mrr_against_loops(run: dict[str, list[str]], relevant: set[str]) -> None:
    qrels = {query: dict.fromkeys(relevant, 1) for query in run}
    values = measure(run, qrels)
    recall = [len(relevant & set(ranking)) / len(relevant) for ranking in run.values()]
    first = [
        next((1 / rank for rank, d in enumerate(ranking[:10], 1) if d in relevant), 0.0) for ranking in run.values()
    ]
    assert values["recall@100"] == pytest.approx(sum(recall) / len(recall))
    assert values["mrr@10"] == pytest.approx(sum(first) / len(first))


def test_a_missing_ir_measures_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingDependencyError, match="pip install ir-measures"):
        measure({}, {"q": {"a": 1}})


# ---- recall of the exact top k


def test_recall_of_exact() -> None:
    exact = {"q1": ["a", "b", "c"], "q2": ["d"], "q3": []}
    assert recall_of_exact(exact, exact, k=2) == 1.0
    assert recall_of_exact({"q1": ["c", "a"]}, exact, k=2) == 0.25  # half of q1, nothing of q2; q3 has no exact answer
    assert recall_of_exact({"q1": ["c", "b", "a"], "q2": ["x", "d"]}, exact, k=1) == 0.0


@given(RANKING.filter(bool), RANKING, st.integers(1, 30))
def test_recall_of_exact_ignores_order_within_the_top(exact: list[str], run: list[str], k: int) -> None:
    value = recall_of_exact({"q": run}, {"q": exact}, k)
    assert value == recall_of_exact({"q": run[:k][::-1]}, {"q": exact[:k][::-1]}, k)
    assert 0.0 <= value <= 1.0


@pytest.mark.parametrize(("exact", "k"), [({"q": ["a"]}, 0), ({}, 1), ({"q": []}, 1)])
def test_recall_of_nothing_is_refused(exact: dict[str, list[str]], k: int) -> None:
    with pytest.raises(ParameterError):
        recall_of_exact({}, exact, k)


# ---- times


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_percentiles_are_those_of_numpy(seconds: list[float]) -> None:
    expected = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    assert list(percentiles(seconds)) == ["p50", "p95", "p99"]
    assert list(percentiles(seconds).values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_percentiles_of_nothing_are_refused() -> None:
    with pytest.raises(ParameterError):
        percentiles([])
