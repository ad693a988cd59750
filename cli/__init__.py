"""The command line: a thin shell over the library.

1. Commands stand in one file each; what they share in `options`, `output` and `progress`.
2. Data goes to stdout; progress, notes and errors go to stderr.
3. Errors that colindex raises on purpose become `Error: ...` and exit code 1 here, in `Shell.invoke`, and nowhere else.

Exit codes: 0 done; 1 an expected failure, an interrupt, or findings of `verify`; 2 wrong usage.
Nothing heavy (torch, faiss, zarr, numpy) is imported before a command runs, so that help comes at once.
"""

from __future__ import annotations

import errno

import click

import colindex
from colindex.cli import (
    add,
    build,
    compact,
    delete,
    eval,
    explain,
    export,
    import_,
    info,
    inspect,
    search,
    serve,
    verify,
)
from colindex.cli.options import ARGUMENTS
from colindex.errors import ColindexError

__all__ = ["main"]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


class Shell(click.Group):
    """The group of commands, and the one place that turns errors into messages."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the command line as typed, for those who have to quote it."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an expected failure becomes `Error: ...` and exit code 1.

        Raises:
            ClickException: something that colindex or the operating system refused.
        """
        try:
            return super().invoke(ctx)
        except (ColindexError, OSError) as error:
            closed_pipe = getattr(error, "errno", None) == errno.EPIPE  # click leaves quietly
            if closed_pipe or ctx.params["debug"]:
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=Shell, context_settings=CONTEXT)
@click.version_option(colindex.__version__, message="%(prog)s %(version)s", prog_name="colindex")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Build and search a late-interaction index that is larger than memory.

    \b
    Example:
      colindex build corpus.jsonl -o wiki.colindex
      colindex search wiki.colindex "who wrote Dune?"
    """


for _module in (build, search, inspect, explain, serve, add, delete, compact, info, eval, verify, export, import_):
    main.add_command(_module.command)
