"""`colindex delete`: ids in, one more generation of an index without their documents out.

1. Take ids from the command line, from a file or from standard input, or a condition on metadata.
2. Delete their documents in one commit.
3. Say what was deleted and what would be good for the index now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from colindex.cli.changes import advise, dry_run_option, told, write_change
from colindex.cli.options import format_option, index_argument

__all__ = ["command"]


@click.command("delete")
@index_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--from",
    "file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Read ids from a file, or from standard input (-).",
)
@click.option("--where", metavar="CONDITION", help="Delete the documents whose metadata meet an SQL expression.")
@click.option(
    "--missing-ok", is_flag=True, help="Pass over ids that are not in the index; otherwise they are an error."
)
@dry_run_option
@format_option("table", "json")
def command(
    index: Path,
    ids: tuple[str, ...],
    file: Path | None,
    where: str | None,
    missing_ok: bool,
    dry_run: bool,
    format_: str,
) -> None:
    """Delete documents of an index, in one commit: all of them or none.

    FILE holds one id a line, or JSON objects with an `id` such as the hits of `colindex search --format jsonl`; the first
    line decides which. A single - in place of ids is standard input. CONDITION is what `colindex search --where` takes. The
    room is freed by `colindex compact`.

    \b
    Example:
      colindex delete wiki.colindex doc-17 doc-18
      colindex delete wiki.colindex --from gone.txt --missing-ok
      colindex delete wiki.colindex --where "year < 1990" --dry-run
      colindex search wiki.colindex "lorem ipsum" --format jsonl | colindex delete wiki.colindex - --dry-run
    """
    if [bool(ids), file is not None, where is not None].count(True) != 1:
        raise click.UsageError("expected one of ids, --from FILE and --where CONDITION.")
    source = Path("-") if ids == ("-",) else file
    from colindex.change import delete

    with told(index, "Run the command again to delete the documents."):
        wanted = ids if source is None else list(_ids_of(source))
        report = delete(index, wanted, where=where, missing_ok=missing_ok, dry_run=dry_run)
    write_change(report, ("deleted",), format_)
    advise(index)


def _ids_of(path: Path) -> Iterator[str]:
    """The ids in a file, one a line; blank lines are passed over.

    Raises:
        CorpusError: a line is malformed, or there is no id at all.
    """
    from colindex.errors import CorpusError
    from colindex.textfiles import open_lines

    with open_lines(path) as lines:
        filled = ((lines.where, line) for line in lines if line.strip())
        first = next(filled, None)
        if first is None:
            raise CorpusError(f"{lines.name}: expected an id or more, found none.")
        read = _id_of_object if _is_object(first[1]) else _id_of_line
        yield read(*first)
        yield from (read(where, line) for where, line in filled)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _id_of_object(where: str, line: str) -> str:
    from colindex.corpus import checked_id, parse_json_object

    value = parse_json_object(line, where)
    return checked_id(value["_id"] if "_id" in value else value.get("id"), where)


def _id_of_line(where: str, line: str) -> str:
    from colindex.corpus import checked_id

    return checked_id(line.rstrip("\r\n"), where)
