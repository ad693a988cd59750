"""`colindex search`: queries in, ranked documents out.

1. One query from the command line, or many from standard input.
2. Queries are searched in batches; one at a time by sentence, for `--stats`, and on a terminal, where somebody waits.
3. Hits are written as soon as their batch is done.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from colindex.cli.options import (
    SearchOptions,
    format_option,
    index_argument,
    open_index,
    search_options,
    where_option,
)
from colindex.cli.output import HIT_FORMATS, SENTENCE_FORMATS, counted, note, trec_id, write_stats
from colindex.params import Unit

if TYPE_CHECKING:
    from colindex.evaluate import Query
    from colindex.index import Index
    from colindex.types import Hit

__all__ = ["asked_queries", "command", "results"]

_BATCH = 64


@click.command("search")
@index_argument
@click.argument("query")
@search_options(k=10)
@where_option
@click.option(
    "--unit",
    default="document",
    type=click.Choice(get_args(Unit)),
    help="Rank documents as a whole, or those that match best, 4 k and at least 64, by their best sentence, which is shown.",
)
@format_option(*HIT_FORMATS)
@click.option("--stats", is_flag=True, help="Write what each search did to stderr, as JSON.")
def command(
    index: Path, query: str, options: SearchOptions, where: str | None, unit: Unit, format_: str, stats: bool
) -> None:
    """Search an index for QUERY, or for each query on standard input (-).

    Standard input holds one query a line: plain text (numbered by line), `id<TAB>text`, or JSON objects with `_id` and
    `text`; the first line decides which. In trec format, blanks inside ids are percent-encoded.

    CONDITION may mention `id`, `title` and the keys of metadata, which `colindex info` lists. A column of .csv
    and .tsv is numbers where every cell is (year >= 2020), else text (CAST(year AS INTEGER) >= 2020).

    \b
    Example:
      colindex search wiki.colindex "who wrote Dune?"
      colindex search wiki.colindex "who wrote Dune?" --where "year >= 2020 AND lang = 'en'"
      colindex search wiki.colindex "who wrote Dune?" --unit sentence
      colindex search wiki.colindex - -k 100 --format trec < queries.tsv > run.trec
    """
    queries = asked_queries(query)
    write = (SENTENCE_FORMATS if unit == "sentence" else HIT_FORMATS)[format_]
    with open_index(index, options) as opened:
        encoded, chosen = 0, True
        for asked, hits in results(opened, queries, options, where, unit, stats=stats):
            write(asked, hits)
            encoded += sum(trec_id(hit.id) != hit.id for hit in hits)
            chosen = bool(hits)  # k hits come where there are k documents to choose from, whatever the query
    if where is not None and not chosen:
        note(
            "No document meets the condition. A text never equals a number and is greater than any; typeof(COLUMN) tells."
        )
    if format_ == "trec" and encoded:
        note(f"Blanks are percent-encoded in {counted(encoded, 'document id')} of this run.")


def asked_queries(query: str) -> Iterable[Query]:
    """The query of the command line, or those on standard input.

    Raises:
        BadParameter: it cannot be searched; said before anything heavy is loaded.
    """
    from colindex.evaluate import Query, parse_queries
    from colindex.textfiles import Lines

    if query == "-":
        return parse_queries(Lines(sys.stdin.buffer, "standard input"))
    if not query.strip():
        raise click.BadParameter("expected a query, got blanks.", param_hint="'QUERY'")
    try:
        query.encode()
    except UnicodeEncodeError as error:  # Python keeps bytes of the command line that are not UTF-8 as surrogates
        raise click.BadParameter("expected UTF-8, got other bytes.", param_hint="'QUERY'") from error
    return [Query("1", query)]


def results(
    index: Index,
    queries: Iterable[Query],
    options: SearchOptions,
    where: str | None = None,
    unit: Unit = "document",
    *,
    stats: bool,
) -> Iterator[tuple[Query, list[Hit]]]:
    """Each query with its hits, in order."""
    if stats or unit != "document":
        for query in queries:
            hits, spent = index.search_with_stats(query.text, options.k, params=options.params, where=where, unit=unit)
            yield query, hits
            if stats:
                write_stats(query, spent)
        return
    waiting = iter(queries)
    while batch := list(itertools.islice(waiting, 1 if sys.stdin.isatty() else _BATCH)):
        texts = [query.text for query in batch]
        results = index.search_batch(texts, k=options.k, params=options.params, where=where)
        yield from zip(batch, results, strict=True)
