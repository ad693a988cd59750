"""`colindex eval`: how good are the rankings of an index, and how long do they take?

1. Read queries and judgements; keep the queries that were judged.
2. Encode and search each query alone, with one clock for the encoder and one for the index.
3. Measure the rankings, sum up the times, and write both as one object.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colindex.cli.options import (
    SearchOptions,
    format_option,
    index_argument,
    open_index,
    quiet_option,
    search_options,
)
from colindex.cli.output import counted, note, write_facts, write_json
from colindex.cli.progress import shown
from colindex.progress import Progress

if TYPE_CHECKING:
    from colindex.evaluate import Judged, Query
    from colindex.index import Index
    from colindex.progress import Report

__all__ = ["command"]

_DEEPEST_MEASURE = 100
_EXACT_TOGETHER = 50  # queries that share a pass over the records; bounded so that progress shows
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("eval")
@index_argument
@click.option("--queries", required=True, type=_FILE, help="Queries: .jsonl or .tsv, also .gz or .zst.")
@click.option("--qrels", required=True, type=_FILE, help="Judgements: BEIR's .tsv or TREC's four columns.")
@search_options(k=_DEEPEST_MEASURE)
@format_option("table", "json")
@quiet_option
def command(index: Path, queries: Path, qrels: Path, options: SearchOptions, format_: str, quiet: bool) -> None:
    """Measure the rankings and the latency of an index on judged queries.

    Latency is the time of the index alone; the encoder's time is given apart. Queries that nobody judged are left out.
    With --exact, queries share one pass over all records, and latency is their share of its time.

    \b
    Example:
      colindex eval wiki.colindex --queries queries.jsonl --qrels qrels/test.tsv
      colindex eval wiki.colindex --queries queries.jsonl --qrels qrels/test.tsv --exact --format json
    """
    from colindex.evaluate import judged_queries, read_qrels, read_queries

    judged = judged_queries(read_queries(queries), read_qrels(qrels))
    _tell_left_out(judged, options.k)
    with open_index(index, options) as opened, shown(quiet=quiet) as report:
        facts = _evaluate(opened, judged, options, report)
    (write_json if format_ == "json" else write_facts)(facts)


def _tell_left_out(judged: Judged, k: int) -> None:
    if judged.unjudged:
        note(f"Left out {counted(judged.unjudged, 'query')} without judgements.")
    if judged.unknown:
        note(f"Left out the judgements of {counted(judged.unknown, 'query')} that the query file does not have.")
    if k < _DEEPEST_MEASURE:
        note(f"With -k {k}, every measure sees only the first {k} documents.")


def _evaluate(index: Index, judged: Judged, options: SearchOptions, report: Report) -> dict[str, object]:
    from colindex.evaluate import measure, percentiles

    run: dict[str, list[str]] = {}
    encoding: list[float] = []
    searching: list[float] = []
    together = _EXACT_TOGETHER if options.params.exact else 1
    for queries in _reported(judged.queries, together, report):
        start = time.perf_counter()
        vectors = [index.encode_query(query.text) for query in queries]
        encoded = time.perf_counter()
        answers = index.search_vectors_batch(vectors, k=options.k, params=options.params)
        searching += [(time.perf_counter() - encoded) / len(queries)] * len(queries)
        encoding += [(encoded - start) / len(queries)] * len(queries)
        run |= {query.id: [hit.id for hit in hits] for query, hits in zip(queries, answers, strict=True)}
    return {
        **measure(run, judged.qrels),
        "queries": len(judged.queries),
        "latency_ms": percentiles(searching),
        "encode_ms": percentiles(encoding),
    }


def _reported(queries: tuple[Query, ...], together: int, report: Report) -> Iterable[tuple[Query, ...]]:
    for done in range(0, len(queries), together):
        report(Progress("search", done, len(queries), "queries"))
        yield queries[done : done + together]
    report(Progress("search", len(queries), len(queries), "queries"))
