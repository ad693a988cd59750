"""`colindex export`: an index in, plain files that anybody reads out; or a copy of the index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from colindex.cli.options import format_option, index_argument, quiet_option
from colindex.cli.output import note, write_facts, write_json
from colindex.cli.progress import shown

__all__ = ["command"]


@click.command("export")
@index_argument
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--as-index", is_flag=True, help="Copy the index as it is instead: a backup that opens at once.")
@click.option("--no-vectors", is_flag=True, help="Leave out the decoded vectors, which an import does not need.")
@format_option("table", "json")
@quiet_option
def command(index: Path, destination: Path, as_index: bool, no_vectors: bool, format_: str, quiet: bool) -> None:
    """Write an index as plain zarr arrays and JSON lines, readable without colindex.

    DESTINATION is a new folder, or a file if its name ends in .tar or .tar.zst. The newest generation is exported, without
    deleted documents; others may search and write the index meanwhile. Every byte is checked on the way, and the
    destination appears whole or not at all. `colindex import` makes an index of it again.

    \b
    Example:
      colindex export wiki.colindex wiki.export
      colindex export wiki.colindex wiki.tar.zst --no-vectors
      colindex export wiki.colindex backup.colindex --as-index
    """
    if as_index and (no_vectors or destination.name.endswith((".tar", ".tar.zst"))):
        raise click.UsageError("--as-index copies to a folder, vectors and all; leave out --no-vectors and .tar.")
    from colindex.exporting import copy_index, export_index

    try:
        with shown(quiet=quiet) as progress:
            if as_index:
                report = copy_index(index, destination, progress=progress)
            else:
                report = export_index(index, destination, vectors=not no_vectors, progress=progress)
    except KeyboardInterrupt as interrupt:
        note(f"\n{destination} was not written; {index} is as it was.")
        raise click.Abort from interrupt
    (write_json if format_ == "json" else write_facts)(asdict(report) | {"seconds": round(report.seconds, 3)})
