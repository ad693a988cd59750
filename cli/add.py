"""`colindex add`: corpus files in, one more generation of an index out.

1. Load the encoder that the index names; an index of vectors has none, and takes vectors through Python only.
2. Read the corpus as a stream, encode it and add it in one commit.
3. Say what was added and what would be good for the index now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colindex.cli.changes import advise, dry_run_option, newest_manifest, told, write_change
from colindex.cli.options import encoder_like, format_option, gathered, index_argument, quiet_option
from colindex.cli.output import note, tell_skipped
from colindex.cli.progress import shown
from colindex.errors import EncoderMismatchError

if TYPE_CHECKING:
    from colindex.change import ChangeReport
    from colindex.corpus import CorpusReader

__all__ = ["command"]


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How to add documents."""

    upsert: bool
    dry_run: bool
    skip_invalid: bool
    encoder: str | None
    device: str | None
    batch_size: int
    threads: int | None
    quiet: bool


@click.command("add")
@index_argument
@click.argument("corpus", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option(
    "--upsert", is_flag=True, help="Replace documents whose ids are in the index; otherwise they are an error."
)
@dry_run_option
@click.option("--skip-invalid", is_flag=True, help="Pass over malformed records and count them.")
@click.option("--encoder", metavar="NAME", help="Where to load the encoder from instead of the name in the index.")
@click.option("--device", help="Device of the encoder, such as cpu or cuda.")
@click.option("--batch-size", default=32, type=click.IntRange(min=1), help="Documents encoded at once.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads that code the vectors; all cores if not given.")
@format_option("table", "json")
@quiet_option
@gathered(AddOptions, "options")
def command(index: Path, corpus: tuple[Path, ...], options: AddOptions, format_: str) -> None:
    """Add documents to an index, in one commit: all of them or none.

    CORPUS is what `colindex build` takes. Vectors are added in Python: `Index.add_vectors`. A dry run reads the whole
    corpus and checks its ids, and estimates what would be written.

    \b
    Example:
      colindex add wiki.colindex more.jsonl.gz
      colindex add wiki.colindex changed.jsonl --upsert
      zcat dump.gz | colindex add wiki.colindex - --upsert --dry-run
    """
    from colindex.corpus import read_corpus

    documents = read_corpus(corpus, skip_invalid=options.skip_invalid)
    with told(index, "Run the command again to add the documents."):
        try:
            report = _add(index, documents, options)
        finally:
            tell_skipped(documents.skipped, documents.messages)
    write_change(report, ("added", "replaced", "tokens", "centroids"), format_)
    if report.advice:
        note(f"{index}: {report.advice}")
    advise(index)


def _add(index: Path, documents: CorpusReader, options: AddOptions) -> ChangeReport:
    """Raises EncoderMismatchError for an index of vectors."""
    manifest = newest_manifest(index)
    if manifest.encoder is None:
        raise EncoderMismatchError(
            f"{index}: expected an index of texts, got one that was built from vectors; add vectors to it in Python: "
            "`with Index.open(path) as index: index.add_vectors(batches)`."
        )
    from colindex.change import add
    from colindex.params import BuildParams
    from colindex.sources import TextSource

    encoder = encoder_like(manifest.encoder, options.encoder, device=options.device, batch_size=options.batch_size)
    params = replace(BuildParams.of_index(manifest.params), threads=options.threads)
    source = TextSource(documents, encoder, params)
    with shown(quiet=options.quiet) as report:
        return add(index, source, replace=options.upsert, dry_run=options.dry_run, progress=report)
