"""`colindex build`: corpus files in, an index out.

1. Read the corpus as a stream.
2. Load the encoder.
3. Build, and say what was built; after an interrupt, say how to go on.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from colindex.cli.options import ARGUMENTS, DEFAULT_ENCODER, gathered, memory_option, quiet_option
from colindex.cli.output import counted, note, tell_skipped
from colindex.cli.progress import shown
from colindex.params import BITS, BuildParams, Window, parse_build_memory

if TYPE_CHECKING:
    from colindex.build import BuildReport
    from colindex.corpus import CorpusReader

__all__ = ["command", "resume_command"]

_DEFAULTS = BuildParams()


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Everything but the corpus and the place of the index."""

    encoder: str
    window: Window
    device: str | None
    batch_size: int
    bits: str
    pool_factor: int
    dim: int | None
    memory: str
    resume: bool
    skip_invalid: bool
    quiet: bool

    @property
    def params(self) -> BuildParams:
        """The settings that the library takes."""
        return BuildParams(bits=int(self.bits), pool_factor=self.pool_factor, dim=self.dim, memory=self.memory)


@click.command("build")
@click.argument("corpus", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option(
    "-o", "--output", required=True, metavar="INDEX", type=click.Path(path_type=Path), help="Folder to write."
)
@click.option("--encoder", default=DEFAULT_ENCODER, metavar="NAME", help="`minilm`, a folder, or a name on the hub.")
@click.option(
    "--window",
    default="document",
    type=click.Choice(get_args(Window)),
    help="Encode each document as a whole, or each of its sentences alone: ranks sentences better, and cuts no long document.",
)
@click.option(
    "--bits",
    default=str(_DEFAULTS.bits),
    type=click.Choice([*map(str, BITS)]),
    help="Bits a dimension; 32 keeps the vectors as they are.",
)
@click.option(
    "--pool-factor",
    default=_DEFAULTS.pool_factor,
    type=click.IntRange(1, 8),
    help="Merge the tokens of a document to one vector in this many.",
)
@click.option("--dim", type=click.IntRange(8, 1024), help="Learn a projection to this many dimensions.")
@memory_option(
    str(_DEFAULTS.memory), "Bound on the memory of the build, the model apart; 640MiB or more.", parse_build_memory
)
@click.option(
    "--resume", is_flag=True, help="Go on with an interrupted build of the same corpus, with the same options."
)
@click.option("--skip-invalid", is_flag=True, help="Pass over malformed records and count them.")
@click.option("--device", help="Device of the encoder, such as cpu or cuda.")
@click.option("--batch-size", default=32, type=click.IntRange(min=1), help="Documents encoded at once.")
@quiet_option
@gathered(BuildOptions, "options")
@click.pass_context
def command(ctx: click.Context, corpus: tuple[Path, ...], output: Path, options: BuildOptions) -> None:
    """Build an index from corpus files.

    CORPUS is .jsonl, .tsv, .csv or .parquet (each also .gz or .zst), a folder of .txt and .md files, or - for JSON
    lines on standard input. A document has an `_id` (or `id`), a `text` and perhaps a `title`; all other fields are
    metadata.

    \b
    Example:
      colindex build corpus.jsonl.gz -o wiki.colindex
      colindex build notes/ -o notes.colindex --bits 4 --dim 128
      zcat dump.gz | colindex build - -o dump.colindex --skip-invalid
    """
    from colindex.corpus import read_corpus

    documents = read_corpus(corpus, skip_invalid=options.skip_invalid)
    try:
        report = _build(documents, output, options)
    except KeyboardInterrupt as interrupt:
        if output.exists():
            note(f"\nTo go on: {resume_command(ctx.meta[ARGUMENTS])}")
        raise click.Abort from interrupt
    finally:
        tell_skipped(documents.skipped, documents.messages)
    _tell_built(output, report)


def _build(documents: CorpusReader, output: Path, options: BuildOptions) -> BuildReport:
    from colindex.encoder import Encoder
    from colindex.index import Index

    encoder = Encoder.load(options.encoder, device=options.device, batch_size=options.batch_size, window=options.window)
    with shown(quiet=options.quiet) as report:
        return Index.build(output, documents, encoder, options.params, resume=options.resume, progress=report)


def resume_command(arguments: tuple[str, ...]) -> str:
    """The command line that was typed, with `--resume`, quoted for a shell.

    >>> resume_command(("build", "my notes.jsonl", "-o", "x"))
    "colindex build --resume 'my notes.jsonl' -o x"
    """
    if "--resume" in arguments:
        return shlex.join(("colindex", *arguments))
    place = arguments.index("build") + 1  # right after the command: later there may be a `--`, and only paths after it
    return shlex.join(("colindex", *arguments[:place], "--resume", *arguments[place:]))


def _tell_built(output: Path, report: BuildReport) -> None:
    held = ", ".join(
        (
            counted(report.documents, "document"),
            counted(report.tokens, "vector"),
            counted(report.segments, "segment"),
        )
    )
    size, seconds = sum(report.bytes.values()) / 2**20, sum(report.seconds.values())
    note(f"Built {output}: {held}; {size:,.1f} MiB in {seconds:,.1f} s.")
