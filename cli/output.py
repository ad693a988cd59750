"""The only file that writes to stdout, and the notes to stderr.

1. Hits: `table` to read, `jsonl` to process (one object a hit), `trec` for trec_eval. The same rows in all three.
2. Facts (`info`, `eval`) and findings (`verify`): a table, or one JSON value.
3. Views of a match (`inspect`), as `colindex.views` makes them; texts (`explain`).
4. Notes: one line on stderr.

What comes from a document is never taken for markup, and characters that could steer a terminal are replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from colindex.evaluate import Query
    from colindex.types import Document, Hit, SearchStats

__all__ = [
    "HIT_FORMATS",
    "SENTENCE_FORMATS",
    "counted",
    "note",
    "one_line",
    "size",
    "tell_skipped",
    "trec_id",
    "write_facts",
    "write_json",
    "write_paragraphs",
    "write_rows",
    "write_stats",
    "write_view",
]

TAG = "colindex"
_SNIPPET = 400  # characters, more than any terminal is wide
_ID_WIDTH, _TITLE_WIDTH = 40, 40
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


def note(text: str) -> None:
    """Tell the user something that is no data."""
    click.echo(text, err=True)


def tell_skipped(count: int, messages: Sequence[str]) -> None:
    """Notes about records of a corpus that were passed over: how many, and what was wrong with the first of them."""
    if count:
        note(f"Skipped {counted(count, 'invalid record')}, first:")
        for message in messages:
            note(f"  {message}")


def counted(count: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "query"), counted(1_200, "document")
    ('1 query', '1,200 documents')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def write_json(value: object) -> None:
    """One JSON value on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def write_jsonl(query: Query, hits: Sequence[Hit]) -> None:
    """One object a hit: query_id, rank, id, score, title, text, metadata; the score of a document without vectors is null."""
    for rank, hit in enumerate(hits, start=1):
        write_json(_row(query, rank, hit, _document(hit)))


def write_sentences_jsonl(query: Query, hits: Sequence[Hit]) -> None:
    """The same, and the span and text of each hit's best sentence; null, as its score, for a document without any."""
    for rank, hit in enumerate(hits, start=1):
        document = _document(hit)
        sentence = None if hit.span is None else document.content[slice(*hit.span)]
        write_json(_row(query, rank, hit, document) | {"span": hit.span, "sentence": sentence})


def _row(query: Query, rank: int, hit: Hit, document: Document) -> dict[str, Any]:
    from colindex.views.data import finite

    return {
        "query_id": query.id,
        "rank": rank,
        "id": hit.id,
        "score": finite(hit.score),
        "title": document.title,
        "text": document.text,
        "metadata": dict(document.metadata),
    }


def write_trec(query: Query, hits: Sequence[Hit]) -> None:
    """`query Q0 document rank score tag`, one line a hit."""
    for rank, hit in enumerate(hits, start=1):
        click.echo(f"{trec_id(query.id)} Q0 {trec_id(hit.id)} {rank} {hit.score:.9g} {TAG}")


def write_hits_table(query: Query, hits: Sequence[Hit]) -> None:
    """Rank, score, id, title and the beginning of the text, one line a hit, cut to the width of the terminal.

    Of a hit with a best sentence, that in place of the text, on as many lines as it takes.
    """
    from rich.text import Text

    table = _table(title=Text(one_line(query.text[:_SNIPPET]), "bold", no_wrap=True, overflow="ellipsis"))
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True, overflow="ellipsis", max_width=_ID_WIDTH)
    documents = [_document(hit) for hit in hits]
    titled = any(document.title for document in documents)
    if titled:
        table.add_column("title", max_width=_TITLE_WIDTH)
    table.add_column("text")
    for rank, (hit, document) in enumerate(zip(hits, documents, strict=True), start=1):
        title = [_cut(document.title)] if titled else []
        cells = [Text(str(rank)), Text(f"{hit.score:.4f}"), Text(one_line(hit.id)), *title]
        table.add_row(*cells, _cut(document.text) if hit.span is None else _wrapped(document.content[slice(*hit.span)]))
    _print(table)


def _cut(text: str) -> Text:
    """A cell that gives way when the terminal is narrow: rich shrinks columns that may wrap, this keeps to one line."""
    from rich.text import Text

    return Text(one_line(text[:_SNIPPET]), no_wrap=True, overflow="ellipsis")


def _wrapped(text: str) -> Text:
    """A cell of several lines."""
    from rich.text import Text

    return Text(one_line(text if len(text) <= _SNIPPET else f"{text[:_SNIPPET]}…"))


HIT_FORMATS = {"table": write_hits_table, "jsonl": write_jsonl, "trec": write_trec}
SENTENCE_FORMATS = HIT_FORMATS | {"jsonl": write_sentences_jsonl}


def trec_id(text: str) -> str:
    """An id for a TREC run file, whose columns blanks separate: blanks are percent-encoded.

    >>> trec_id("a b"), trec_id("100%")
    ('a%20b', '100%')
    """
    return "".join(quote(character) if character.isspace() else character for character in text)


def one_line(text: str) -> str:
    """Text for one cell: blanks and line feeds become single spaces, unprintable characters a mark.

    >>> one_line(" a   b ")
    'a b'
    """
    return _printable(" ".join(text.split()))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else _UNPRINTABLE for character in text)


def write_facts(facts: Mapping[str, Any]) -> None:
    """Nested facts as a table of two columns; names of inner facts are joined by dots, bytes get a unit."""
    write_rows(("name", "value"), _flat(facts))


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table; all columns but the first may wrap."""
    from rich.text import Text

    table = _table()
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    _print(table)


def write_stats(query: Query, stats: SearchStats) -> None:
    """What a search did, as one line of JSON on stderr: it is talk about the results, not the results."""
    names = ("postings", "gathered", "candidates", "bytes_read", "reads", "cache_hits", "cache_misses", "prefetch_hits")
    seconds = {stage: round(value, 6) for stage, value in stats.seconds.items()}
    note(json.dumps({"query_id": query.id, "seconds": seconds} | {name: getattr(stats, name) for name in names}))


def write_view(view: RenderableType) -> None:
    """A view of a match, with colours on a terminal."""
    _print(view)


def write_paragraphs(heading: str, *paragraphs: str) -> None:
    """Some texts under a heading of one line, wrapped between words to the width of the terminal."""
    from rich.console import Group
    from rich.text import Text

    title = Text(one_line(heading[:_SNIPPET]), "bold", no_wrap=True, overflow="ellipsis")
    _print(Group(title, *(Text(_printable(paragraph)) for paragraph in paragraphs)))


def _document(hit: Hit) -> Document:
    """The stored document; an empty one for hits of an index that was built from vectors alone."""
    from colindex.types import Document

    return Document(id=hit.id, text="") if hit.source is None else hit.document


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            rows += _flat(value, path)
        else:
            rows.append((path, _shown(path, value)))
    return rows


def _shown(path: str, value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return size(value) if _counts_bytes(path) else f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _counts_bytes(path: str) -> bool:
    """Whether a fact of `info` is a number of bytes, by its name."""
    whole, _, part = path.partition(".")
    return whole in ("budget", "disk", "resident") or "bytes" in (part or whole)


def size(count: int) -> str:
    """A number of bytes to read.

    >>> size(512), size(1_500_000)
    ('512 B', '1.4 MiB')
    """
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def _table(**settings: Any) -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", **settings)


def _print(view: RenderableType) -> None:
    from rich.console import Console

    Console(highlight=False, emoji=False, markup=False).print(view)
