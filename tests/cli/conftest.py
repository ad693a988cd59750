"""One small index, an encoder that needs no model, and a way to run commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from colindex import Document, Encoder, Index
from colindex.cli import main
from tests.words import WordEncoder, documents

Run = Callable[..., Result]


def word_encoder() -> Encoder:
    """The encoder of the index; it has what the library asks of one, but is no model."""
    return cast(Encoder, WordEncoder())


@pytest.fixture(scope="session")
def corpus_documents() -> list[Document]:
    return documents(120)


@pytest.fixture(scope="session")
def index_path(tmp_path_factory: pytest.TempPathFactory, corpus_documents: list[Document]) -> Path:
    """Read only: who changes files copies it first."""
    path = tmp_path_factory.mktemp("index") / "words.colindex"
    Index.build(path, corpus_documents, word_encoder())
    return path


@pytest.fixture
def corpus(tmp_path: Path, corpus_documents: list[Document]) -> Path:
    path = tmp_path / "corpus.jsonl"
    rows = [{"_id": d.id, "title": d.title, "text": d.text, **d.metadata} for d in corpus_documents]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What encoders were asked for; every name gives the `WordEncoder`."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def load(name: str, **settings: Any) -> WordEncoder:
        calls.append((name, settings))
        return WordEncoder(salt=1 if name == "other" else 0)

    monkeypatch.setattr("colindex.encoder.Encoder.load", load)
    return calls


@pytest.fixture
def run(loaded: list[tuple[str, dict[str, Any]]]) -> Run:
    def invoke(*arguments: str | Path, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)

    return invoke
