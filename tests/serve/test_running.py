"""The command: where it serves, what it says, and how it stops."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from colindex.cli import main
from tests.serve.conftest import running, start, started
from tests.words import WordEncoder


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colindex.encoder.Encoder.load", lambda name, **settings: WordEncoder())


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def post(url: str, form: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(form).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_it_serves_where_it_says(served_path: Path, free_port: int) -> None:
    with running("serve", served_path, "--port", str(free_port)) as url:
        assert url == f"http://127.0.0.1:{free_port}"
        assert get(f"{url}/health")["status"] == "ok"
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(
                urllib.request.Request(f"{url}/health", headers={"host": "evil.example"}), timeout=30
            )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_what_runs(served_path: Path, number: signal.Signals) -> None:
    process = start("serve", served_path, "--port", "0")
    try:
        url = started(process)
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(post(f"{url}/api/search", {"query": "slow amber"})))
        asking.start()
        time.sleep(0.4)  # the query takes a second
        process.send_signal(number)
        asking.join(30)
        assert len(answers[0]["hits"]) == 10
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "Stopped.\n")
        with pytest.raises(urllib.error.URLError):
            get(f"{url}/health")
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken(loaded: None, served_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["serve", str(served_path), "--port", str(port)])
    assert result.exit_code == 1
    assert f"Error: port: expected one that is free on 127.0.0.1, got {port}" in result.stderr
    assert "--port" in result.stderr


def test_an_address_of_another_machine(loaded: None, served_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", str(served_path), "--host", "192.0.2.1"])
    assert result.exit_code == 1
    assert "192.0.2.1" in result.stderr


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_who_is_let_in_is_said(
    loaded: None, served_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, warned: bool
) -> None:
    monkeypatch.setattr("colindex.serve.running.serve", lambda *arguments: arguments[-1]())
    result = CliRunner().invoke(main, ["serve", str(served_path), "--host", host, "--port", "0"])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert ("Warning: 0.0.0.0 is reached by other machines" in result.stderr) is warned
    assert "Serving " in result.stderr and " at http://127.0.0.1:" in result.stderr


def test_the_page_is_opened_where_asked(loaded: None, served_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("colindex.serve.running.serve", lambda *arguments: arguments[-1]())
    CliRunner().invoke(main, ["serve", str(served_path), "--port", "0", "--open"])
    assert len(opened) == 1 and opened[0].startswith("http://127.0.0.1:")


def test_without_the_extra_the_way_out_is_named(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'fastapi' else found(name, *more)\n"
        "from colindex.cli import main\n"
        "main(['serve', 'gone'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: colindex serve: expected the package fastapi")
    assert "pip install 'colindex[serve]'" in done.stderr
