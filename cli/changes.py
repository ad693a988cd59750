"""What the commands that change an index have in common.

1. `told` runs a change; after an interrupt it says which generation the index is at: the one before, or the one that was
   committed a moment earlier. There is nothing in between.
2. `write_change` writes what was done, or in a dry run would be done, to stdout.
3. `advise` says on stderr what would be good for the index now.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from colindex.cli.output import counted, note, write_facts, write_json

if TYPE_CHECKING:
    from colindex.change import ChangeReport
    from colindex.storage.manifest import Manifest

__all__ = ["advise", "dry_run_option", "newest_manifest", "told", "write_change"]

Command = TypeVar("Command", bound=Callable[..., Any])
_MANY_SEGMENTS = 8
"""So many segments are worth a word: each is searched on its own."""
_MANY_DELETED = 0.2
"""So great a share of deleted documents is worth a word: it is read past and takes room."""


def dry_run_option(command: Command) -> Command:
    """`--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(command)


def newest_manifest(index: Path) -> Manifest:
    """What the newest generation is made of, read from the catalog alone.

    Raises:
        IndexNotFoundError, IndexNotBuiltError, CorruptIndexError, FormatTooNewError
    """
    from colindex.storage.catalog import Catalog

    with Catalog.open_reader(index) as catalog:
        return catalog.manifest()


@contextmanager
def told(index: Path, again: str) -> Iterator[None]:
    """Run a change of an index; after an interrupt say what state it is in, and how to go on (`again`)."""
    before = newest_manifest(index).generation
    try:
        yield
    except KeyboardInterrupt as interrupt:
        after = newest_manifest(index).generation
        state = f"unchanged, at generation {before}. {again}" if after == before else f"changed, at generation {after}."
        note(f"\n{index} is {state}")
        raise click.Abort from interrupt


def write_change(report: ChangeReport, names: Sequence[str], format_: str) -> None:
    """What a change did: all of it as JSON, or in a table the facts called `names` and what holds for every change."""
    facts = asdict(report)
    if format_ == "json":
        write_json(facts | {"seconds": dict(report.seconds)})
    else:
        shown = {name: facts[name] for name in (*names, "bytes", "documents", "generation")}
        write_facts(shown | {"seconds": round(sum(report.seconds.values()), 3)})
    if report.dry_run:
        note(f"Dry run: nothing was written{'; tokens and bytes are estimates' if report.tokens else ''}.")


def advise(index: Path) -> None:
    """Recommend compaction where there is much to tidy, and compaction would."""
    manifest = newest_manifest(index)
    deleted = sum(each.deleted for each in manifest.tombstones.values())
    stored = manifest.documents + deleted
    many = len(manifest.segments) >= _MANY_SEGMENTS
    if not many and deleted <= stored * _MANY_DELETED:
        return
    from colindex.compact import compact
    from colindex.errors import IndexLockedError

    with suppress(IndexLockedError):  # somebody else is at it
        plan = compact(index, dry_run=True)
        if plan.runs:
            note(
                f"{index} has {counted(plan.segments_before, 'segment')}, and {deleted:,} of its {stored:,} documents are "
                f"deleted; to make that {counted(plan.segments_after, 'segment')} and {deleted - plan.dropped:,}: "
                f"{shlex.join(['colindex', 'compact', str(index)])}"
            )
