"""A server of a small index with an encoder that needs no model: in this process, and in one of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from colindex import Document, Index
from colindex.serve.app import create_app
from colindex.serve.limits import Limits
from tests.words import WordEncoder, documents

ROOT = Path(__file__).resolve().parents[2]
URL = "http://127.0.0.1"
STRANGE = [
    Document(
        "evil <b>",
        "<script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\"> amber wonder",
        title="<i>wonder</i>",
        metadata={"number": -1, "html": "<u>x</u>"},
    ),
    Document("sum.", "A first sentence of amber. Wonder 😀 stands in the second! A third of kelp."),
    Document("odd", "amber \u2028 \x00 \ufeff \U0001f600 e\u0301", metadata={"a list": [1, None, {"x": True}]}),
    Document("empty", ""),
]

Serving = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def served_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: who changes it copies it first."""
    path = tmp_path_factory.mktemp("served") / "words.colindex"
    Index.build(path, [*documents(60), *STRANGE], WordEncoder())
    return path


@pytest.fixture(scope="module")
def index(served_path: Path) -> Iterator[Index]:
    with Index.open(served_path, encoder=WordEncoder(), refresh=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(index: Index, served_path: Path) -> Iterator[TestClient]:
    with client_of(index, served_path) as opened:
        yield opened


def client_of(
    index: Index, path: Path, limits: Limits | None = None, names: frozenset[str] | None = None
) -> TestClient:
    """A client of a server in this process. An error of the server is an answer to look at, as it is to browsers."""
    return TestClient(create_app(index, path, limits, names), base_url=URL, raise_server_exceptions=False)


_STARTED = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import time
from tests.words import WordEncoder
from colindex.encoder import Encoder
class Slow(WordEncoder):
    def encode_query(self, text):
        time.sleep(1.0 if "slow" in text else 0.0)
        return super().encode_query(text)
Encoder.load = lambda name, **settings: Slow()
from colindex.cli import main
main()
"""


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """`colindex` in a process of its own; queries with the word `slow` take a second."""
    command = [sys.executable, "-c", _STARTED, str(ROOT), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def started(process: subprocess.Popen[str]) -> str:
    """The URL that it prints."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Serving "):
            return line.split(" at ")[1].split(" ")[0].rstrip("/")
    raise AssertionError(f"the server ended with {process.wait()}")


@contextmanager
def running(*arguments: str | Path) -> Iterator[str]:
    """The URL of a server that is stopped at the end."""
    process = start(*arguments)
    try:
        yield started(process)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Until it is met."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
