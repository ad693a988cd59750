"""The repair that `colindex verify --repair` does.

1. Find out what would be repaired and lost, and say it.
2. Ask, unless told not to.
3. Write the report beside the index, then repair; texts of lost documents go to a file that `colindex add` takes, and are on the
   disk before the index gives them up.
4. Say what was done, and verify again.

The report and the texts lie outside the index: `INDEX.repair-GENERATION.json` and `.jsonl`.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

import click

from colindex.cli.output import counted, note, write_json, write_rows

if TYPE_CHECKING:
    from colindex import Document
    from colindex.repair import RepairReport

__all__ = ["run_repair"]

_SHOWN = 20


def run_repair(index: Path, *, yes: bool, dry_run: bool, format_: str) -> bool:
    """Repair an index that has findings; whether it is whole again and nothing was lost.

    Raises:
        CorruptIndexError: it cannot be repaired.
    """
    from colindex.repair import repair

    plan = repair(index, dry_run=True)
    _tell(plan)
    if dry_run:
        _write(plan, {}, format_)
        return False
    if not yes:
        click.confirm(f"Repair {index}?", abort=True, err=True)
    place = index.absolute()
    report_path = place.with_name(f"{place.name}.repair-{plan.before}.json")
    texts_path = report_path.with_suffix(".jsonl")
    _write_report(report_path, plan)
    try:
        with _Texts(texts_path) as texts:
            report = repair(index, rescue=texts.rescue, before_commit=texts.make_durable)
    except KeyboardInterrupt as interrupt:
        note(f"\nThe repair was interrupted; what it would do is in {report_path}. Run the command again.")
        raise click.Abort from interrupt
    _write_report(report_path, report)
    files = {"report": str(report_path)} | ({"texts": str(texts_path)} if texts_path.exists() else {})
    _write(report, files, format_)
    return _tell_end(index, report, files)


def _tell(plan: RepairReport) -> None:
    """What a repair would do, on stderr."""
    whole = plan.documents + len(plan.lost)
    note(f"A repair loses {counted(len(plan.lost), 'document')} of {whole:,}.")
    if plan.rewritten:
        note(
            f"Written anew from what is sound: {counted(len(plan.rewritten), 'segment')} ({', '.join(plan.rewritten)})."
        )
    if plan.dropped:
        note(f"Dropped: {counted(len(plan.dropped), 'segment')} ({', '.join(plan.dropped)}).")
    for text in plan.notes:
        note(text)


def _tell_end(index: Path, report: RepairReport, files: dict[str, str]) -> bool:
    from colindex.storage.verify import verify_index

    left = [finding for finding in verify_index(index) if not finding.harmless]
    state = f"{counted(len(left), 'finding')} left" if left else "no findings left"
    note(f"{index} is at generation {report.generation}, with {counted(report.documents, 'document')}; {state}.")
    note(f"Report: {files['report']}")
    if "texts" in files:
        command = shlex.join(["colindex", "add", str(index), files["texts"], "--upsert"])
        note(f"The texts of lost documents could be read; to add them again: {command}")
    return not left and not report.lost


def _write(report: RepairReport, files: dict[str, str], format_: str) -> None:
    """The report on stdout: whole as JSON, or a table of the first documents that are lost."""
    if format_ == "json":
        write_json(report.as_dict() | files)
    elif report.lost:
        rows = [(each.id, each.segment, each.reason, "yes" if each.text_rescued else "no") for each in report.lost]
        write_rows(("lost document", "segment", "reason", "text"), rows[:_SHOWN])
        if len(rows) > _SHOWN:
            note(f"and {len(rows) - _SHOWN:,} more.")


def _write_report(path: Path, report: RepairReport) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(report.as_dict(), file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


class _Texts:
    """Writes documents to a file as JSON lines; there is none where there are no documents."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def rescue(self, document: Document) -> None:
        """Append a document."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
        row = {"_id": document.id, "title": document.title, "text": document.text, "metadata": dict(document.metadata)}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def make_durable(self) -> None:
        """Wait until the documents are on the disk, and the file's name is."""
        if self._file is not None:
            from colindex.storage.directory import fsync_folder

            self._file.flush()
            os.fsync(self._file.fileno())
            fsync_folder(self._path.parent)
