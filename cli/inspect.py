"""`colindex inspect`: what a document's score for a query is made of.

1. *Inspect* the document, and the one to compare it with where one is named: another document, another index, or both.
2. *Write* it to stdout, to read or as JSON, and to a page where a file is named.

Standard input may hold many queries; a page holds one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colindex.cli.options import (
    OpenOptions,
    format_option,
    gathered,
    index_argument,
    load_encoder,
    open_index,
    open_options,
)
from colindex.cli.output import note, write_json, write_view
from colindex.cli.search import asked_queries

if TYPE_CHECKING:
    from colindex.evaluate import Query
    from colindex.match import Match
    from colindex.views.comparison import Comparison

__all__ = ["command"]


@dataclass(frozen=True, slots=True)
class Extent:
    """What is inspected beside the document itself, and where it goes beside stdout."""

    html: Path | None
    against: str | None
    against_index: Path | None
    no_exact: bool


@click.command("inspect")
@index_argument
@click.argument("query")
@click.argument("id_", metavar="ID")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page too.")
@click.option("--against", metavar="ID", help="Compare with this document.")
@click.option(
    "--against-index", type=click.Path(path_type=Path), metavar="INDEX", help="Compare with the document of this index."
)
@click.option("--no-exact", is_flag=True, help="Do not encode the document again to show what quantization did.")
@gathered(Extent, "extent")
@open_options
@format_option("table", "json")
def command(index: Path, query: str, id_: str, extent: Extent, options: OpenOptions, format_: str) -> None:
    """Show why document ID gets its score for QUERY, token by token.

    With - for QUERY, for each query on standard input, as `search` reads them. Each query token is shown with the
    document token that it is most similar to, its share of the score, and what quantization did to it. The text is
    highlighted: what contributes is underlined and carries the number of its query token.

    \b
    Example:
      colindex inspect wiki.colindex "who wrote Dune?" dune
      colindex inspect wiki.colindex "who wrote Dune?" dune --html match.html
      colindex inspect wiki.colindex "who wrote Dune?" dune --against emma
      colindex inspect wiki.colindex "who wrote Dune?" dune --against-index pooled.colindex
    """
    queries = _single(asked_queries(query)) if extent.html else asked_queries(query)
    places = [(index, id_)]
    if extent.against is not None or extent.against_index is not None:
        places.append((extent.against_index or index, id_ if extent.against is None else extent.against))
    for found in _inspected(places, queries, options, exact=not extent.no_exact):
        if extent.html:
            found.to_html(extent.html)
            note(f"Wrote {extent.html}.")
        _write(found, format_)


def _single(queries: Iterable[Query]) -> Iterable[Query]:
    """One query; raises UsageError for more."""
    found = list(queries)
    if len(found) > 1:
        raise click.UsageError(f"--html: expected one query, got {len(found):,}; a page shows one.")
    return found


def _inspected(
    places: list[tuple[Path, str]], queries: Iterable[Query], options: OpenOptions, *, exact: bool
) -> Iterator[Match | Comparison]:
    """The match of each query, or the comparison of its two."""
    paths = list(dict.fromkeys(path for path, _ in places))
    with ExitStack() as stack:
        encoder = load_encoder(paths[0], options)
        indexes = {path: stack.enter_context(open_index(path, options, encoder)) for path in paths}
        for query in queries:
            first, *others = (indexes[path].inspect(query.text, id_, exact=exact) for path, id_ in places)
            yield first.compare(others[0], _names(places)) if others else first


def _names(places: list[tuple[Path, str]]) -> tuple[str, str]:
    """What tells the two apart: the index, the document, or both."""
    (first, first_id), (second, second_id) = places
    if first == second:
        return first_id, second_id
    if first_id == second_id:
        return str(first), str(second)
    return f"{first}: {first_id}", f"{second}: {second_id}"


def _write(found: Match | Comparison, format_: str) -> None:
    from colindex.views.comparison import Comparison
    from colindex.views.terminal import comparison_view, match_view

    if format_ == "json":
        write_json(found.to_dict())
    else:
        write_view(comparison_view(found) if isinstance(found, Comparison) else match_view(found))
