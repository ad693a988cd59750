"""`colindex verify`: is every byte of an index what was committed? And with --repair: what is left if it is not?"""

from __future__ import annotations

from pathlib import Path

import click

from colindex.cli.options import format_option, index_argument
from colindex.cli.output import counted, note, write_json, write_rows
from colindex.cli.repair import run_repair

__all__ = ["command"]

_COLUMNS = ("kind", "path", "expected", "got", "message")


@click.command("verify")
@index_argument
@click.option("--repair", is_flag=True, help="Give up what cannot be read, and make the rest whole again.")
@click.option("--yes", is_flag=True, help="Repair without asking.")
@click.option("--dry-run", is_flag=True, help="Only say what a repair would do.")
@format_option("table", "json")
@click.pass_context
def command(ctx: click.Context, index: Path, repair: bool, yes: bool, dry_run: bool, format_: str) -> None:
    """Check every byte of an index against its checksums.

    Exits with 1 if anything is wrong, and says what. What a writer that was ended left behind is listed, but is not wrong.

    With --repair, documents that cannot be read are given up, by name: a report with their ids and the texts that could still
    be read are written beside the index, as INDEX.repair-GENERATION.json and .jsonl. All other documents stay. Exits with 1
    if a document was lost. A damaged codebook cannot be repaired.

    \b
    Example:
      colindex verify wiki.colindex
      colindex verify wiki.colindex --format json
      colindex verify wiki.colindex --repair --dry-run
    """
    if (yes or dry_run) and not repair:
        raise click.UsageError("--yes and --dry-run go with --repair.")
    from colindex.storage.verify import verify_index

    findings = verify_index(index)
    rows = [{column: str(getattr(finding, column)) for column in _COLUMNS} for finding in findings]
    if format_ == "json" and not repair:
        write_json(rows)
    elif rows and format_ == "table":
        write_rows(("kind", "message"), [(row["kind"], row["message"]) for row in rows])
    note(f"{index}: {counted(len(rows), 'finding')}." if rows else f"{index}: no findings.")
    if all(finding.harmless for finding in findings):
        if repair and format_ == "json":
            write_json(None)
        return
    if not (repair and run_repair(index, yes=yes, dry_run=dry_run, format_=format_)):
        ctx.exit(1)
