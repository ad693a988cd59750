"""Progress on stderr: one bar a stage, with its rate and the time left.

Shown only where stderr is a terminal and nobody asked for quiet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from colindex.progress import Progress, Report, silent

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import Task, TaskID

__all__ = ["rate", "shown"]


@contextmanager
def shown(*, quiet: bool) -> Iterator[Report]:
    """A function that shows what it is told, as long as the block runs."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    bars = _bars()
    tasks: dict[str, TaskID] = {}

    def report(progress: Progress) -> None:
        if progress.stage not in tasks:
            tasks[progress.stage] = bars.add_task(progress.stage, total=progress.total, unit=progress.unit)
        bars.update(tasks[progress.stage], completed=progress.done, total=progress.total)

    with bars:
        yield report


def rate(speed: float | None, unit: str) -> str:
    """A rate to read.

    >>> rate(1234.5, "documents"), rate(None, "documents")
    ('1,234 documents/s', '')
    """
    if speed is None:
        return ""
    return f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s"


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.finished_speed or task.speed, task.fields["unit"]))

    return Bars(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
