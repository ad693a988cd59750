"""How good is a ranking, and how long did it take?

1. Read the queries: JSON lines, tab-separated lines or plain lines.
2. Read the judgements (qrels): BEIR's three columns or TREC's four.
3. Keep the queries that were judged, and the judgements of queries that there are.
4. Measure a run with ir-measures: nDCG@10, Recall@100, MRR@10.
5. Measure a run against another one (the exact top k), and sum up times as percentiles.

A run maps each query id to document ids, best first. The order is what counts: scores are not compared again, because
trec_eval breaks ties of score by document id, and so would judge another ranking than the one that was returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colindex.corpus import checked_id, parse_json_object, split_tsv
from colindex.errors import CorpusError, MissingDependencyError, ParameterError
from colindex.textfiles import Lines, open_lines

__all__ = [
    "Judged",
    "Query",
    "Run",
    "judged_queries",
    "measure",
    "parse_queries",
    "percentiles",
    "read_qrels",
    "read_queries",
    "recall_of_exact",
]

Run = Mapping[str, Sequence[str]]
"""Query id -> document ids, best first."""
Qrels = Mapping[str, Mapping[str, int]]
"""Query id -> document id -> grade; 0 is judged and not relevant."""

MEASURES = {"ndcg@10": "nDCG@10", "recall@100": "R@100", "mrr@10": "RR@10"}
"""Our names -> those of ir-measures."""
_PERCENTILES = (50, 95, 99)
_QUERY_ID_COLUMNS = ("_id", "id", "qid", "query-id", "query_id")
_QUERY_TEXT_COLUMNS = ("text", "query")
_BEIR_COLUMNS, _TREC_COLUMNS = 3, 4


@dataclass(frozen=True, slots=True)
class Query:
    """One query as its file knows it."""

    id: str
    """From the file, or the number of its line."""
    text: str
    """What is searched."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The queries that can be evaluated, with their judgements."""

    queries: tuple[Query, ...]
    """In the order of their file."""
    qrels: Qrels
    """Judgements of exactly these queries."""
    unjudged: int
    """Queries left out because nothing was judged for them."""
    unknown: int
    """Judged queries left out because the query file does not have them."""


def read_queries(path: Path | str) -> tuple[Query, ...]:
    """All queries of a file (`.gz` and `.zst` are unpacked, `-` is standard input).

    Raises:
        CorpusError: the file is missing, malformed or without a query.
    """
    with open_lines(path) as lines:
        queries = tuple(parse_queries(lines))
    if not queries:
        raise CorpusError(f"{path}: expected at least one query, found none.")
    return queries


def parse_queries(lines: Lines) -> Iterator[Query]:
    """Queries from lines: JSON objects with `_id` and `text`, `id<TAB>text`, or plain text numbered by line.

    The first line that is not blank decides which of the three the whole file is.

    Raises:
        CorpusError: a line is malformed, its text is blank, or its id occurred before.
    """
    seen: set[str] = set()
    kind = ""
    for line in lines:
        if not line.strip():
            continue
        if not kind:
            kind = _query_format(line)
            if kind == "tsv" and _is_query_header(split_tsv(line)):
                continue
        query = _query(kind, line, lines)
        if not query.text.strip():
            raise CorpusError(f"{lines.where}: expected the text of query {query.id!r}, found none.")
        if query.id in seen:
            raise CorpusError(f"{lines.where}: expected each query id once, got {query.id!r} again.")
        seen.add(query.id)
        yield query


def _query_format(line: str) -> str:
    if line.lstrip().startswith("{"):
        return "jsonl"
    return "tsv" if "\t" in line.strip("\r\n") else "plain"


def _is_query_header(cells: Sequence[str]) -> bool:
    return cells[0].lower() in _QUERY_ID_COLUMNS and cells[1].lower() in _QUERY_TEXT_COLUMNS


def _query(kind: str, line: str, lines: Lines) -> Query:
    if kind == "plain":
        return Query(str(lines.number), line.strip())
    if kind == "tsv":
        cells = split_tsv(line)
        if len(cells) < 2:
            raise CorpusError(f"{lines.where}: expected an id, a tab and a text as on the first line, got no tab.")
        return Query(checked_id(cells[0], lines.where), cells[1])
    record = parse_json_object(line, lines.where)
    id_, text = record.get("_id", record.get("id")), record.get("text")
    if not isinstance(text, str):
        raise CorpusError(f"{lines.where}: expected a field `text` that is text; the query has none.")
    return Query(checked_id(id_, lines.where), text)


def read_qrels(path: Path | str) -> dict[str, dict[str, int]]:
    """Judgements: query id -> document id -> grade.

    A line is BEIR's `query-id<TAB>corpus-id<TAB>score` (a header may stand first) or TREC's
    `query iteration document grade`.

    Raises:
        CorpusError: the file is missing, malformed, empty, or grades one pair in two ways.
    """
    qrels: dict[str, dict[str, int]] = {}
    with open_lines(path) as lines:
        first = True
        for line in lines:
            if not line.strip():
                continue
            cells = _qrel_cells(line, lines)
            if not (first and not _is_grade(cells[2])):  # the header, if any, is the first line
                _add_judgement(qrels, cells, lines)
            first = False
    if not qrels:
        raise CorpusError(f"{path}: expected at least one judgement, found none.")
    return qrels


def _qrel_cells(line: str, lines: Lines) -> tuple[str, str, str]:
    """Query id, document id and grade of one line; ids with blanks are possible where tabs separate."""
    cells = split_tsv(line)
    if len(cells) not in (_BEIR_COLUMNS, _TREC_COLUMNS):
        cells = line.split()
    if len(cells) == _BEIR_COLUMNS:
        return cells[0], cells[1], cells[2].strip()
    if len(cells) == _TREC_COLUMNS:
        return cells[0], cells[2], cells[3].strip()
    raise CorpusError(
        f"{lines.where}: expected 3 columns (query-id, corpus-id, score) or 4 (query, iteration, document, grade), "
        f"got {len(cells)}."
    )


def _is_grade(cell: str) -> bool:
    return cell.removeprefix("-").isdecimal()


def _add_judgement(qrels: dict[str, dict[str, int]], cells: tuple[str, str, str], lines: Lines) -> None:
    query, document, grade = cells
    if not _is_grade(grade):
        raise CorpusError(f"{lines.where}: expected a whole number as grade, got {grade!r}.")
    known = qrels.setdefault(query, {}).setdefault(document, int(grade))
    if known != int(grade):
        raise CorpusError(
            f"{lines.where}: query {query!r} and document {document!r} have grade {known} further up and {grade} here."
        )


def judged_queries(queries: Sequence[Query], qrels: Qrels) -> Judged:
    """The queries that have judgements, and the judgements that have a query.

    Raises:
        CorpusError: there is no such query.
    """
    kept = tuple(query for query in queries if query.id in qrels)
    if not kept:
        raise CorpusError(
            f"the judgements name no known query: {len(queries):,} queries such as {queries[0].id!r}, judgements for "
            f"{len(qrels):,} others such as {next(iter(qrels))!r}; check that both files are of one collection."
        )
    return Judged(
        queries=kept,
        qrels={query.id: qrels[query.id] for query in kept},
        unjudged=len(queries) - len(kept),
        unknown=len(qrels) - len(kept),
    )


def measure(run: Run, qrels: Qrels) -> dict[str, float]:
    """nDCG@10, Recall@100 and MRR@10, the mean over the queries of `qrels`; a query without a ranking counts as 0.

    Raises:
        MissingDependencyError: ir-measures is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependencyError(
            "evaluation needs the package ir-measures, which is not installed: pip install ir-measures."
        ) from error
    measures = {name: ir_measures.parse_measure(theirs) for name, theirs in MEASURES.items()}
    scored = {
        query: {document: float(-rank) for rank, document in enumerate(ranking)}
        for query, ranking in run.items()
        if query in qrels
    }
    values = ir_measures.calc_aggregate(list(measures.values()), {q: dict(d) for q, d in qrels.items()}, scored)
    return {name: float(values[theirs]) for name, theirs in measures.items()}


def recall_of_exact(run: Run, exact: Run, k: int) -> float:
    """Share of the exact top k that the top k of `run` holds, the mean over the queries of `exact`.

    >>> recall_of_exact({"q": ["a", "c"]}, {"q": ["a", "b"]}, k=2)
    0.5

    Raises:
        ParameterError: k < 1, or `exact` holds no ranking.
    """
    if k < 1:
        raise ParameterError(f"k: expected at least 1, got {k}.")
    shares = [
        len(set(ranking[:k]) & set(run.get(query, ())[:k])) / len(ranking[:k])
        for query, ranking in exact.items()
        if ranking
    ]
    if not shares:
        raise ParameterError("recall of the exact top k: expected at least one exact ranking, got none.")
    return sum(shares) / len(shares)


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile in milliseconds, with linear interpolation between neighbours.

    >>> percentiles([0.001, 0.002, 0.003])["p50"]
    2.0

    Raises:
        ParameterError: there is no time.
    """
    ordered = sorted(seconds)
    if not ordered:
        raise ParameterError("percentiles: expected at least one time, got none.")
    return {f"p{percent}": round(1000 * _quantile(ordered, percent / 100), 4) for percent in _PERCENTILES}


def _quantile(ordered: Sequence[float], fraction: float) -> float:
    place = fraction * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
