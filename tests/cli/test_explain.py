"""`colindex explain`: what became of a document, and options that do what is said of them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, SearchParams, generation
from colindex.cli.explain import advised_options
from colindex.explain import Explanation
from tests.cli.conftest import Run, word_encoder
from tests.words import batches, documents

QUERY = "amber basin cedar delta"
NARROW = ("-k", "5", "--nprobe", "1", "--candidates", "10", "--margin", "0")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "words.colindex"
    Index.build(path, documents(400), word_encoder(), BuildParams(segment_tokens=1500))
    return path


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small indexes are probed too."""
    monkeypatch.setattr(generation, "EXACT_TOKENS", 0)


def _words(text: str) -> str:
    """What is wrapped to the width of the terminal."""
    return " ".join(text.split())


def _explained(path: Path, id_: str, k: int = 10, query: str = QUERY, **options: Any) -> Explanation:
    with Index.open(path, encoder=word_encoder()) as index:
        return index.explain_missing(query, id_, k, **options)


def _found(run: Run, path: Path, query: str, *options: str) -> list[str]:
    result = run("search", path, query, "--format", "jsonl", *options)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("probing")
def test_what_is_printed_brings_the_document_in(run: Run, tmp_path: Path) -> None:
    """Vectors of which one probe meets few."""
    path, query, encoder = tmp_path / "v", "quartz tundra fjord xenon", ("--encoder", "words")
    Index.build_from_vectors(path, batches(400, tokens=8))
    before = _found(run, path, query, *NARROW, *encoder)
    seen: Counter[str] = Counter()
    for id_ in _found(run, path, query, "-k", "20", "--exact", *encoder):
        result = run("explain", path, query, id_, *NARROW, *encoder)
        assert (result.exit_code, result.stderr) == (0, "")
        explained = _explained(path, id_, 5, query, params=SearchParams(nprobe=1, candidates=10, margin=0))
        told, added, options = result.stdout.partition("Add to the search: ")
        assert _words(told) == f"{query} {_words(explained.text)}"
        assert bool(added) == (explained.advice is not None)
        assert (explained.kind == "returned") == (id_ in before)
        seen.update([explained.kind, *options.split()])
        if added:
            assert id_ not in before
            assert id_ in _found(run, path, query, *NARROW, *encoder, *shlex.split(options))
    assert {"returned", "not met", "beyond candidates", "--nprobe", "--candidates"} <= set(seen)
    assert seen["--nprobe"] > 5


@pytest.mark.usefixtures("probing")
def test_the_search_that_is_explained_is_the_one_that_is_asked_for(run: Run, path: Path) -> None:
    options = ("-k", "4", "--nprobe", "2", "--candidates", "9", "--margin", "1.5", "--where", "number >= 30")
    params = SearchParams(nprobe=2, candidates=9, margin=1.5)
    for id_ in ("doc-3", "doc-30", "doc-99", *_found(run, path, QUERY, *options)):
        found = json.loads(run("explain", path, QUERY, id_, *options, "--format", "json").stdout)
        assert found == _explained(path, id_, 4, params=params, where="number >= 30").to_dict()
    exact = json.loads(run("explain", path, QUERY, "doc-3", "--exact", "--format", "json").stdout)
    assert exact == _explained(path, "doc-3", params=SearchParams(exact=True)).to_dict()
    assert exact["kind"] in ("refined lower", "returned")


def test_a_hit_is_returned_at_its_rank(run: Run, path: Path) -> None:
    for rank, id_ in enumerate(_found(run, path, QUERY, "-k", "3"), start=1):
        result = run("explain", path, QUERY, id_, "-k", "3")
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"'{id_}' is returned at rank {rank} of 3, with score " in _words(result.stdout)
        assert "Add to the search" not in result.stdout
        assert json.loads(run("explain", path, QUERY, id_, "-k", "3", "--format", "json").stdout)["rank"] == rank


def test_an_unknown_id_is_an_explanation(run: Run, path: Path) -> None:
    result = run("explain", path, QUERY, "no-such-id")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{QUERY}\nThe index holds no document 'no-such-id'.\n"
    found = json.loads(run("explain", path, QUERY, "no-such-id", "--format", "json").stdout)
    assert (found["kind"], found["rank"], found["score"], found["advice"]) == ("absent", None, None, None)


@pytest.mark.parametrize("id_", ["", "x" * 600, "caf\udce9"])
def test_what_is_no_id_is_an_error(run: Run, path: Path, id_: str) -> None:
    result = run("explain", path, QUERY, id_, "--format", "json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: id ")


def test_a_condition_that_leaves_it_out_is_named(run: Run, path: Path) -> None:
    result = run("explain", path, QUERY, "doc-1", "--where", "number BETWEEN 2 AND 4")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "leave it out: 3 of 400 documents may be returned." in _words(result.stdout)
    assert "Add to the search" not in result.stdout
    wrong = run("explain", path, QUERY, "doc-1", "--where", "nummer = 5")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("Error: where: expected an SQL expression")


def test_where_k_documents_match_better_nothing_is_advised(run: Run, path: Path) -> None:
    ranking = _found(run, path, QUERY, "-k", "30", "--exact")
    told = run("explain", path, QUERY, ranking[-1], "-k", "3").stdout
    assert "no setting returns it" in _words(told)
    assert "Add to the search" not in told


def test_queries_from_standard_input(run: Run, path: Path) -> None:
    stdin = "a\tamber\nb\tbasin delta\n"
    told = run("explain", path, "-", "doc-3", stdin=stdin).stdout
    assert [line for line in told.splitlines() if line in ("amber", "basin delta")] == ["amber", "basin delta"]
    written = run("explain", path, "-", "doc-3", "--format", "json", stdin=stdin).stdout
    rows = [json.loads(line) for line in written.splitlines()]
    assert rows == [_explained(path, "doc-3", query=query).to_dict() for query in ("amber", "basin delta")]


def test_ids_and_queries_steer_no_terminal(run: Run, tmp_path: Path) -> None:
    id_ = "a  [b]\x1b[31m\n\u202e"
    Index.build(tmp_path / "i", [Document(id_, "amber")], word_encoder())
    result = run("explain", tmp_path / "i", "amber\x1b[31m [bold]", id_)
    assert result.stdout.startswith(f"amber\ufffd[31m [bold]\n{id_!r} is returned at rank 1 of 10")


@pytest.mark.parametrize(
    ("asked", "advice", "options"),
    [
        ({}, {"nprobe": 128}, ["--nprobe", "128"]),
        ({"nprobe": 2}, {"nprobe": 2, "candidates": 700, "margin": 5.0}, ["--candidates", "700", "--margin", "5.0"]),
        ({}, {"margin": np.inf}, ["--margin", "inf"]),
        ({"margin": 1 / 3}, {"margin": 2 / 3}, ["--margin", repr(2 / 3)]),
        ({"nprobe": 3}, {"nprobe": 3, "exact": True}, ["--exact"]),
        ({}, None, []),
    ],
)
def test_advice_as_options(
    run: Run, path: Path, asked: dict[str, Any], advice: dict[str, Any] | None, options: list[str]
) -> None:
    settings = None if advice is None else SearchParams(**advice)
    found = Explanation("a", "not met", "", 10, SearchParams(**asked), would_refine=settings, advice=settings)
    assert advised_options(found) == options
    assert len(_found(run, path, QUERY, *options)) == 10  # `search` takes them
