"""What holds for every command: help, exit codes, one place for errors, nothing heavy before work begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import colindex
from colindex.cli import main
from colindex.cli.reference import reference
from colindex.errors import CorruptIndexError
from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
each_command = pytest.mark.parametrize("name", sorted(main.commands))


def _help(*arguments: str) -> str:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    return result.stdout


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_commands() -> None:
    names = [
        "add",
        "build",
        "compact",
        "delete",
        "eval",
        "explain",
        "export",
        "import",
        "info",
        "inspect",
        "search",
        "serve",
        "verify",
    ]
    assert sorted(main.commands) == names


@each_command
def test_help_is_a_sentence_and_an_example(name: str) -> None:
    text = _help(name)
    sentence = text.splitlines()[2].strip()
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert f"Example:\n    colindex {name}" in text
    assert CliRunner().invoke(main, [name, "-h"]).stdout == text


@each_command
def test_every_option_is_explained(name: str) -> None:
    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@each_command
def test_the_group_lists_each_command(name: str) -> None:
    assert f"\n  {name} " in _help()


@each_command
def test_the_reference_page_has_each_command(name: str) -> None:
    assert f"### colindex {name}\n" in (ROOT / "docs" / "CLI.md").read_text()


def test_the_reference_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "CLI.md").read_text() == reference(), "run `python docs/make_cli.py`"


def test_the_page_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference()
    monkeypatch.setenv("COLUMNS", "40")
    assert reference() == before


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.stdout == f"colindex {colindex.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["build"],
        ["build", "corpus.jsonl"],
        ["build", "no-such-file.jsonl", "-o", "x"],
        ["build", "-", "-o", "x", "--bits", "3"],
        ["build", "-", "-o", "x", "--pool-factor", "0"],
        ["build", "-", "-o", "x", "--memory", "much"],
        ["build", "-", "-o", "x", "--memory", "639MiB"],
        ["search", "x"],
        ["search", "x", "query", "-k", "0"],
        ["search", "x", "query", "--format", "xml"],
        ["search", "x", "query", "--unit", "word"],
        ["search", "x", "query", "--nprobe", "0"],
        ["search", "x", "  "],
        ["inspect", "x", "query"],
        ["inspect", "x", "  ", "id"],
        ["inspect", "x", "query", "id", "--format", "xml"],
        ["inspect", "x", "query", "id", "--threads", "0"],
        ["explain", "x", "query"],
        ["explain", "x", "  ", "id"],
        ["explain", "x", "caf\udce9", "id"],
        ["explain", "x", "query", "id", "--format", "table"],
        ["explain", "x", "query", "id", "-k", "0"],
        ["explain", "x", "query", "id", "--margin", "-1"],
        ["serve"],
        ["serve", "x", "--port", "65536"],
        ["serve", "x", "--timeout", "0"],
        ["info"],
        ["info", "x", "--system"],
        ["eval", "x"],
        ["verify"],
        ["add", "x"],
        ["add", "x", "no-such-file.jsonl"],
        ["add", "x", "-", "--threads", "0"],
        ["delete", "x"],
        ["delete", "x", "doc-1", "--from", "-"],
        ["delete", "x", "--from", "no-such-file"],
        ["delete", "x", "doc-1", "--where", "a = 1"],
        ["compact"],
        ["compact", "x", "--encoder", "minilm"],
        ["export", "x"],
        ["import", "no-such-folder", "x"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "gone", "query"],
        ["inspect", "gone", "query", "id"],
        ["explain", "gone", "query", "id"],
        ["serve", "gone", "--port", "0"],
        ["info", "gone"],
        ["verify", "gone"],
        ["add", "gone", "-"],
        ["delete", "gone", "doc-1"],
        ["export", "gone", "x"],
        ["compact", "gone"],
    ],
)
def test_an_index_that_is_not_there(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    command, _, *rest = arguments
    result = run(command, tmp_path / "gone", *rest)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "gone" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_error_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(path: Path) -> list[object]:
        raise CorruptIndexError("torn")

    monkeypatch.setattr("colindex.storage.verify.verify_index", verify)
    assert run("verify", "x").stderr == "Error: torn\n"
    assert isinstance(run("--debug", "verify", "x").exception, CorruptIndexError)


def test_errors_of_the_operating_system_are_messages_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(path: Path) -> list[object]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("colindex.storage.verify.verify_index", verify)
    result = run("verify", "x")
    assert (result.exit_code, result.stderr) == (1, "Error: [Errno 13] Permission denied: 'x'\n")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, colindex.cli\n"
        "from colindex.cli import main\n"
        "main(['search', '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'faiss', 'zarr', 'lmdb', 'scipy', 'pyarrow', 'numpy',"
        " 'rich', 'ir_measures'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = _python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_help_is_fast() -> None:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        assert _python("-m", "colindex", "--help").returncode == 0
        best = min(best, time.perf_counter() - start)
    assert best < 1.5  # 0.1 s on an idle machine


# Ctrl-C is heard: what a shell runs in the background inherits that it is not.
_STARTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv.pop(1))
from tests.words import WordEncoder
from colindex.encoder import Encoder
Encoder.load = lambda name, **settings: WordEncoder()
from colindex.cli import main
main()
"""


def _start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """`colindex` in a process of its own, with an encoder that needs no model."""
    command = [sys.executable, "-c", _STARTED, str(ROOT), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT, text=True, **options)


def test_a_closed_pipe_is_quiet(index_path: Path) -> None:
    with _start("search", index_path, "-", "-k", "100", "--format", "jsonl") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("amber basin\n" * 30)
        process.stdin.close()
        assert process.stdout.readline().startswith('{"query_id": "1", "rank": 1')
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) in (0, 1)


def test_an_interrupt_says_aborted_and_how_to_go_on(tmp_path: Path) -> None:
    with _start("build", "-", "-o", "my index", "--bits", "4", cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write('{"_id": "a", "text": "amber"}\n')
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not (tmp_path / "my index" / "staging" / "state.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 1
    assert "colindex build --resume - -o 'my index' --bits 4" in said
    assert said.endswith("Aborted!\n")
    assert "Traceback" not in said
