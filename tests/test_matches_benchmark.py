"""The benchmark of matches tells each way in which one may say otherwise than its hit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.matches import distance, held, violations
from colindex import Hit, Index, Match
from tests.words import WordEncoder, documents


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matches") / "i"
    Index.build(folder, documents(60), WordEncoder())
    return folder


def found(path: Path) -> tuple[Match, Hit]:
    with Index.open(path, encoder=WordEncoder()) as index:
        hit = index.search("amber basin", 1)[0]
        return index.inspect("amber basin", hit.id), hit


def _more_similar(match: Match) -> Match:
    similarities = match.similarities.copy()
    similarities[0, 0] = similarities.max() + np.float32(0.01)
    return replace(match, similarities=similarities)


def test_a_match_says_what_its_hit_does(path: Path) -> None:
    match, hit = found(path)
    assert list(violations(match, hit)) == []
    assert distance(match, hit) < 1e-6


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda match: replace(match, score=match.score + 1e-6), "scores "),
        (_more_similar, "contributions add up to"),
        (lambda match: replace(match, similarities=match.similarities[:1]), "contributions add up to"),
    ],
)
def test_one_that_says_otherwise_is_told(path: Path, wrong: Callable[[Match], Match], told: str) -> None:
    match, hit = found(path)
    assert any(each.startswith(told) for each in violations(wrong(match), hit))


def test_every_hit_is_inspected_and_violations_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = StringIO()
    with Index.open(path, encoder=WordEncoder()) as index:
        queries = [index.encode_query(text) for text in ("amber basin", "rare7")]
        assert held(index, queries, 5, Console(file=said))[:2] == (10, 0)
        inspect = index.inspect
        monkeypatch.setattr(Index, "inspect", lambda _, query, id_: _more_similar(inspect(query, id_)))
        hits, wrong, furthest = held(index, queries, 5, Console(file=said, width=200))
    assert (hits, wrong) == (10, 10)
    assert furthest > 0.001
    assert said.getvalue().count("add up to") == 10
