"""`colindex explain`: what became of a document in a search, and the options that would bring it in.

1. *Explain* it, for the same options as `search` takes.
2. *Write* the explanation to stdout: its own words and, where settings bring the document in, those as options of `search`;
   or as JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from colindex.cli.options import (
    SearchOptions,
    format_option,
    index_argument,
    open_index,
    search_options,
    where_option,
)
from colindex.cli.output import write_json, write_paragraphs
from colindex.cli.search import asked_queries

if TYPE_CHECKING:
    from colindex.explain import Explanation

__all__ = ["advised_options", "command"]


@click.command("explain")
@index_argument
@click.argument("query")
@click.argument("id_", metavar="ID")
@search_options(k=10)
@where_option
@format_option("text", "json")
def command(index: Path, query: str, id_: str, options: SearchOptions, where: str | None, format_: str) -> None:
    """Show why a search for QUERY returns document ID, or why not.

    Says at which stage the search lost the document, with ranks and scores, and which options of `search` bring it in:
    none, where k other documents match at least as well. The options are those of the search to explain. An ID that the
    index does not hold is explained too, and no error. With - for QUERY, for each query on standard input, as `search`
    reads them.

    \b
    Example:
      colindex explain wiki.colindex "who wrote Dune?" dune
      colindex explain wiki.colindex "who wrote Dune?" dune -k 3 --nprobe 8 --where "year >= 2020"
    """
    queries = asked_queries(query)
    with open_index(index, options) as opened:
        for asked in queries:
            found = opened.explain_missing(asked.text, id_, options.k, params=options.params, where=where)
            if format_ == "json":
                write_json(found.to_dict())
            else:
                write_paragraphs(asked.text, found.text, *_advice(found))


def _advice(found: Explanation) -> list[str]:
    """What to add to the command line of the search."""
    return [f"Add to the search: {' '.join(advised_options(found))}"] if found.advice else []


def advised_options(found: Explanation) -> list[str]:
    """Advice as options of `search`: those that differ from the search that was explained."""
    asked, advice = found.params, found.advice or found.params
    valued = [name for name in ("nprobe", "candidates", "margin") if getattr(advice, name) != getattr(asked, name)]
    options = [part for name in valued for part in (f"--{name}", str(getattr(advice, name)))]
    return [*options, "--exact"] if advice.exact and not asked.exact else options
