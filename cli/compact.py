"""`colindex compact`: many segments in, few out, and nothing left of what was deleted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colindex.cli.changes import dry_run_option, told
from colindex.cli.options import format_option, index_argument, quiet_option
from colindex.cli.output import counted, note, size, write_json, write_rows
from colindex.cli.progress import shown

if TYPE_CHECKING:
    from colindex.compact import CompactReport, Rewrite

__all__ = ["command"]

_COLUMNS = ("segments", "from", "into", "documents", "dropped", "read", "written")


@click.command("compact")
@index_argument
@click.option("--full", is_flag=True, help="Leave as few segments as there can be, and no deleted document.")
@dry_run_option
@format_option("table", "json")
@quiet_option
def command(index: Path, full: bool, dry_run: bool, format_: str, quiet: bool) -> None:
    """Merge small segments and free the room of deleted documents.

    Vectors are copied as they are: no score changes, not by a bit. Without --full, what would be much work for little is left
    alone. Each row of the table is one commit: neighbouring segments that became others. Searches go on meanwhile; files
    that a reader still holds go when it lets go of them. It needs room for the new segments beside the old ones.

    \b
    Example:
      colindex compact wiki.colindex --dry-run
      colindex compact wiki.colindex
      colindex compact wiki.colindex --full
    """
    from colindex.compact import compact

    with told(index, "Run the command again to go on."), shown(quiet=quiet) as progress:
        report = compact(index, full=full, dry_run=dry_run, progress=progress)
    if format_ == "json":
        write_json(asdict(report))
    elif report.runs:
        write_rows(_COLUMNS, [_row(run) for run in report.runs])
    _tell(index, report)


def _row(run: Rewrite) -> tuple[str, ...]:
    first, last = run.segments[0], run.segments[-1]
    counts = (len(run.segments), len(run.outputs), run.documents, run.dropped)
    named = first if first == last else f"{first} to {last}"
    return (named, *(f"{count:,}" for count in counts), size(run.bytes_read), size(run.bytes_written))


def _tell(index: Path, report: CompactReport) -> None:
    """What it comes to, on stderr."""
    if not report.runs:
        note(
            f"{index}: nothing to do; {counted(report.segments_before, 'segment')}, {counted(report.documents, 'document')}."
        )
        return
    verb = "would become" if report.dry_run else "became"
    note(
        f"{index}: {counted(report.segments_before, 'segment')} {verb} {report.segments_after:,}, without "
        f"{counted(report.dropped, 'deleted document')}; {size(report.bytes_read)} read, {size(report.bytes_written)} written, "
        f"{size(report.bytes_freed)} freed, generation {report.generation}, {report.seconds:.1f} s."
    )
    if report.dry_run:
        note("Dry run: nothing was written; bytes written are an estimate.")
