"""`colindex verify`: is every byte of an index what was committed?"""

from __future__ import annotations

from pathlib import Path

import click

from colindex.cli.options import format_option, index_argument
from colindex.cli.output import counted, note, write_json, write_rows

__all__ = ["command"]

_COLUMNS = ("kind", "path", "expected", "got", "message")


@click.command("verify")
@index_argument
@format_option("table", "json")
@click.pass_context
def command(ctx: click.Context, index: Path, format_: str) -> None:
    """Check every byte of an index against its checksums.

    Exits with 1 if anything is wrong, and says what. What a writer that was ended left behind is listed, but is not wrong.

    \b
    Example:
      colindex verify wiki.colindex
      colindex verify wiki.colindex --format json
    """
    from colindex.storage.verify import verify_index

    findings = verify_index(index)
    rows = [{column: str(getattr(finding, column)) for column in _COLUMNS} for finding in findings]
    if format_ == "json":
        write_json(rows)
    elif rows:
        write_rows(("kind", "message"), [(row["kind"], row["message"]) for row in rows])
    note(f"{index}: {counted(len(rows), 'finding')}." if rows else f"{index}: no findings.")
    if not all(finding.harmless for finding in findings):
        ctx.exit(1)
