"""`colindex compact`: many segments in, few out, and nothing left of what was deleted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colindex.cli.changes import dry_run_option, newest_manifest, told
from colindex.cli.options import encoder_like, format_option, index_argument, quiet_option
from colindex.cli.output import counted, note, size, write_json, write_rows
from colindex.cli.progress import shown

if TYPE_CHECKING:
    from colindex.compact import CompactReport, Rewrite
    from colindex.encoder import Encoder

__all__ = ["command"]

_LOSSLESS_BITS = 8
"""Bits a dimension at which coding anew what was decoded loses next to nothing."""
_COLUMNS = ("segments", "from", "into", "documents", "dropped", "read", "written")


@click.command("compact")
@index_argument
@click.option("--full", is_flag=True, help="Leave as few segments as there can be, and no deleted document.")
@click.option("--retrain", is_flag=True, help="Learn a new codebook, and code everything anew with it.")
@click.option(
    "--encoder", metavar="NAME", help="With --retrain: where to load the encoder from instead of the name in the index."
)
@dry_run_option
@format_option("table", "json")
@quiet_option
def command(
    index: Path, full: bool, retrain: bool, encoder: str | None, dry_run: bool, format_: str, quiet: bool
) -> None:
    """Merge small segments and free the room of deleted documents.

    Vectors are copied as they are: no score changes, not by a bit. Without --full, what would be much work for little is left
    alone. Each row of the table is one commit: neighbouring segments that became others. Searches go on meanwhile; files
    that a reader still holds go when it lets go of them. It needs room for the new segments beside the old ones.

    --retrain is for an index that has grown away from what its codebook was learned from, as `colindex info` tells: texts are
    encoded again, as a build would. An index of vectors has only what was stored of them, and loses by it below 8 bits: build
    it anew where the vectors are at hand.

    \b
    Example:
      colindex compact wiki.colindex --dry-run
      colindex compact wiki.colindex
      colindex compact wiki.colindex --full
      colindex compact wiki.colindex --retrain
    """
    if encoder is not None and not retrain:
        raise click.UsageError("--encoder goes with --retrain.")
    from colindex.compact import compact

    if retrain:
        _warn_of_loss(index)
    with told(index, "Run the command again to go on."), shown(quiet=quiet) as progress:
        loaded = _encoder(index, encoder) if retrain and not dry_run else None
        report = compact(index, full=full, retrain=retrain, encoder=loaded, dry_run=dry_run, progress=progress)
    if format_ == "json":
        write_json(asdict(report))
    elif report.runs:
        write_rows(_COLUMNS, [_row(run) for run in report.runs])
    _tell(index, report)


def _encoder(index: Path, name: str | None) -> Encoder | None:
    """The encoder of an index of texts; None for an index of vectors."""
    fingerprint = newest_manifest(index).encoder
    return None if fingerprint is None else encoder_like(fingerprint, name)


def _warn_of_loss(index: Path) -> None:
    """Say what retraining costs an index of vectors, while it can still be interrupted."""
    manifest = newest_manifest(index)
    if manifest.encoder is None and manifest.bits < _LOSSLESS_BITS:
        note(
            f"{index} was built from vectors and has only what it stored of them: coded anew they lose once more. Where the "
            "vectors are at hand, build it anew instead."
        )


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
    dropped = f", without {counted(report.dropped, 'deleted document')}" if report.dropped else ""
    note(
        f"{index}: {counted(report.segments_before, 'segment')} {verb} {report.segments_after:,}{dropped}; "
        f"{size(report.bytes_read)} read, {size(report.bytes_written)} written, "
        f"{size(report.bytes_freed)} freed, generation {report.generation}, {report.seconds:.1f} s."
    )
    if report.dry_run:
        note("Dry run: nothing was written; bytes written are an estimate.")
