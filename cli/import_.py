"""`colindex import`: what `colindex export` wrote in, an index out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from colindex.cli.options import format_option, quiet_option
from colindex.cli.output import note, write_facts, write_json
from colindex.cli.progress import shown

__all__ = ["command"]


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("index", type=click.Path(path_type=Path))
@format_option("table", "json")
@quiet_option
def command(source: Path, index: Path, format_: str, quiet: bool) -> None:
    """Make an index of an export, with the same answers bit for bit.

    SOURCE is a folder, a .tar or a .tar.zst that `colindex export` wrote. Every file is compared with its checksum first, and
    INDEX appears whole or not at all.

    \b
    Example:
      colindex import wiki.export wiki.colindex
      colindex import wiki.tar.zst wiki.colindex
    """
    from colindex.importing import import_index

    try:
        with shown(quiet=quiet) as progress:
            report = import_index(source, index, progress=progress)
    except KeyboardInterrupt as interrupt:
        note(f"\n{index} was not written.")
        raise click.Abort from interrupt
    (write_json if format_ == "json" else write_facts)(asdict(report) | {"seconds": round(report.seconds, 3)})
