"""Which body runs: the native one where it was built, with the best instruction set; and without it everything still works."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colindex import BuildParams, Index, SearchParams
from colindex.kernels import chosen, reference
from tests.kernels.bodies import SETS, Body, needs_native
from tests.kernels.records import unit_rows
from tests.words import batches

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted(
    set(chosen.__all__) - {"BODY", "MISSING", "refine"}
)  # tests/test_refinement.py holds the last to its definition

_ROUNDING = 0.06
"""Of a score of 40 query tokens, at most: in 8 bits, some 3e-3 a token at 16 dims, where values are large."""

HIDDEN = """
import sys
sys.modules["colindex.kernels.native._native"] = None
from colindex.kernels import chosen
assert chosen.BODY == "reference (NumPy)", chosen.BODY
"""
ANSWERS = """
import json, sys
from pathlib import Path
from tests.kernels.test_chosen import answers
print(json.dumps(answers(Path(sys.argv[1]))))
"""
BUILD = """
import sys
from pathlib import Path
from tests.kernels.test_chosen import built
built(Path(sys.argv[1]))
"""


def answers(folder: Path) -> list[list[tuple[str, float]]]:
    """The best documents for some queries, by candidates and by all documents."""
    with Index.open(folder) as index:
        return [
            [
                (hit.id, hit.score)
                for hit in index.search_vectors(query, k=8, params=SearchParams(exact=exact, nprobe=8))
            ]
            for query in (unit_rows(tokens, 16, seed=tokens) for tokens in (1, 5, 20, 40))
            for exact in (True, False)
        ]


def built(folder: Path) -> Path:
    params = BuildParams(threads=1, segment_tokens=700)
    Index.build_from_vectors(folder, batches(500), params)
    return folder


def _python(code: str, folder: Path) -> str:
    """Run code in a new interpreter that finds no native kernels."""
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN + code, str(folder)],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def index_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("chosen") / "index")


def test_without_native_kernels_a_search_gives_the_same_answers(index_path: Path) -> None:
    for found, expected in zip(json.loads(_python(ANSWERS, index_path)), answers(index_path), strict=True):
        np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=_ROUNDING)
        above = expected[-1][1] + 2 * _ROUNDING  # nearer to the last one another document may come in
        assert {id_ for id_, score in expected if score > above} <= {id_ for id_, _ in found}


def test_without_native_kernels_a_build_writes_the_same_bytes(index_path: Path, tmp_path: Path) -> None:
    _python(BUILD, tmp_path / "index")

    def content(folder: Path) -> dict[str, bytes]:
        files = [path for part in folder.glob("*.zarr") for path in part.rglob("*")]
        files += list((folder / "segments").rglob("*"))
        return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}

    assert len(content(index_path)) > 10
    assert content(tmp_path / "index") == content(index_path)


@needs_native
def test_the_best_instruction_set_is_in_use() -> None:
    best = f"native ({SETS[-1]})"
    assert best == chosen.BODY
    assert not chosen.MISSING
    assert SETS[0] == "generic"


@needs_native
def test_an_instruction_set_that_is_none_is_refused() -> None:
    from colindex.kernels.native import _native

    with pytest.raises(ValueError, match="sse9"):
        _native.use_instruction_set("sse9")
    assert _native.instruction_set() == SETS[-1]


@needs_native
@pytest.mark.parametrize("name", SETS)
def test_a_body_of_the_tests_leaves_the_set_in_use_as_it_was(name: str) -> None:
    from colindex.kernels.native import _native

    with Body(name).in_use():
        assert _native.instruction_set() == name
    assert _native.instruction_set() == SETS[-1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_bodies_have_one_signature(kernel: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, kernel)) for module in (chosen, reference))
    assert ours == theirs


def test_the_list_of_kernels_is_that_of_the_reference() -> None:
    assert sorted(reference.__all__) == KERNELS


@needs_native
def test_every_kernel_with_a_native_body_runs_it() -> None:
    modules: dict[str, Any] = {name: getattr(chosen, name).__module__ for name in KERNELS}
    native = {name for name, module in modules.items() if module.startswith("colindex.kernels.native.")}
    assert native >= {
        "top_centroids",
        "gather",
        "score_records",
        "encode_residuals",
        "nearest",
        "project",
        "ward_labels",
    }


@needs_native
def test_a_native_body_of_other_sources_is_refused() -> None:
    code = (
        "from colindex.kernels.native import _native\n"
        "_native.INTERFACE -= 1\n"
        "from colindex.kernels import chosen\n"
        "print(chosen.BODY, '|', chosen.MISSING)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert told.startswith("reference (NumPy) | ")
    assert "built from other sources; build it again" in told
