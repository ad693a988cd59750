"""Progress: on a terminal alone, and on stderr alone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from colindex.cli.progress import rate, shown
from colindex.progress import Progress, silent

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
from colindex.cli.progress import shown
from colindex.progress import Progress
with shown(quiet={quiet}) as report:
    report(Progress("ingest", 5, None))
    report(Progress("encode", 50, 100))
    report(Progress("encode", 100, 100))
"""


def test_nothing_is_shown_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=False) as report:
        assert report is silent
        report(Progress("encode", 1, 2))
    assert capsys.readouterr() == ("", "")


def _on_a_terminal(*, quiet: bool) -> tuple[str, str]:
    """What a script that reports progress writes to stdout, and to a terminal that is its stderr."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(quiet=quiet)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        check=True,
        timeout=60,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            block = os.read(ours, 65_536)
        except OSError:  # the other end is closed and everything was read
            break
        if not block:
            break
        said += block
    os.close(ours)
    return done.stdout.decode(), said.decode()


def test_a_terminal_sees_stages_counts_and_units() -> None:
    stdout, said = _on_a_terminal(quiet=False)
    assert stdout == ""
    assert "ingest" in said
    assert "encode" in said
    assert "100/100" in said
    assert "documents/s" in said


def test_quiet_is_quiet() -> None:
    assert _on_a_terminal(quiet=True) == ("", "")


@pytest.mark.parametrize(("speed", "expected"), [(None, ""), (3.14, "3.1 queries/s"), (12_345.6, "12,346 queries/s")])
def test_rate(speed: float | None, expected: str) -> None:
    assert rate(speed, "queries") == expected
