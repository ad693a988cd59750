"""The benchmark of explanations: it finds nothing where they are right, and everything that an explanation may get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.explain import KINDS, main
from colindex import Explanation, Index, SearchParams
from colindex.explain import Reach
from tests.words import WORDS, WordEncoder, documents

PAIRS = 70


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection as `benchmarks.vectors` keeps it."""
    folder, encoder = tmp_path_factory.mktemp("vectors"), WordEncoder(dim=32)
    rng = np.random.default_rng(0)
    docs = encoder.encode_documents(documents(800))
    queries = encoder.encode_queries([" ".join(rng.choice(WORDS, 5)) for _ in range(5)])
    for name, batch in (("docs", docs), ("queries", queries)):
        assert batch.token_ids is not None
        np.savez(folder / f"{name}.npz", v=batch.vectors, i=batch.token_ids, o=batch.offsets, ids=np.array(batch.ids))
    return folder


def run(vectors: Path, output: Path, **options: Any) -> Result:
    given = {"scratch": vectors, "pairs": PAIRS, "queries": 5, "dim": 32, "output": output, **options}
    arguments = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    return CliRunner().invoke(main, [str(vectors), *arguments])


def test_right_explanations_pass(vectors: Path, tmp_path: Path) -> None:
    result = run(vectors, tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert sum(row["any"] for row in found["stages"].values()) == PAIRS // 2
    assert sum(row["good"] for row in found["stages"].values()) == PAIRS // 2
    assert found["violations"] == 0
    assert [kind for kind in KINDS if kind in result.output] == list(KINDS)
    assert sum(row["advised"] for row in found["stages"].values()) > 0


def _poor_advice(found: Explanation) -> Explanation:
    return found if found.advice is None else replace(found, advice=found.params)


def _poor_settings(found: Explanation) -> Explanation:
    return found if found.would_refine is None else replace(found, would_refine=found.params)


def _fewer_probes(found: Explanation) -> Explanation:
    first = found.reach[0]
    return replace(found, reach=(Reach(0, first.text, first.similarity, first.nprobe - 1), *found.reach[1:]))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda found: replace(found, kind="given up"), "but is "),
        (lambda found: replace(found, score=found.score + 1), "but scores"),
        (lambda found: replace(found, kth=None), "k-th score"),
        (lambda found: replace(found, rank=0), "but returned at rank"),
        (lambda found: replace(found, advice=None), "deserves a place"),
        (lambda found: replace(found, would_refine=SearchParams()), "named where it was refined"),
        (_poor_advice, "not returned with the settings"),
        (_poor_settings, "not refined with the settings"),
        (_fewer_probes, "meet it with more probes"),
    ],
)
def test_wrong_ones_are_told(
    wrong: Callable[[Explanation], Explanation],
    told: str,
    vectors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explain = Index.explain_missing

    def lying(self: Index, *arguments: Any, **options: Any) -> Explanation:
        return wrong(explain(self, *arguments, **options))

    monkeypatch.setattr(Index, "explain_missing", lying)
    result = run(vectors, tmp_path / "out.json")
    assert result.exit_code == 1
    assert told in " ".join(result.output.split())
    assert json.loads((tmp_path / "out.json").read_text())["violations"] > 0
