"""Index folders of every released format version open for ever, with the answers that they gave when they were made.

python -m tests.test_golden          makes the folder of the current version, if it is missing
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from colindex import BuildParams, Index, SearchParams
from colindex.storage.manifest import FORMAT_VERSION
from colindex.storage.verify import verify_index
from tests.words import WordEncoder, batches, documents

GOLDEN = Path(__file__).parent / "golden"
QUERIES = ["amber cedar", "rare17", "title3 zephyr"]
ROUNDING = 0.01
"""By which the kernels of two versions may differ: up to 4e-3 for each of a query's few tokens, at 16 dims."""
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def answers(folder: Path) -> dict[str, list[list[object]]]:
    found = {}
    params = SearchParams(exact=False)
    with Index.open(folder / "text.colindex", encoder=WordEncoder()) as index:
        for query in QUERIES:
            hits = index.search(query, k=5, params=params)
            found[query] = [[hit.id, round(hit.score, 4), hit.document.title] for hit in hits]
    with Index.open(folder / "vectors.colindex") as index:
        hits = index.search_vectors(np.eye(16, dtype=np.float32)[:3], k=5, params=params)
        found["vectors"] = [[hit.id, round(hit.score, 4), hit.document.title] for hit in hits]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_index_opens_and_answers(version: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / version, tmp_path / version)  # LMDB's table of readers is written beside the data
    expected = json.loads((GOLDEN / version / "answers.json").read_text())
    found = answers(tmp_path / version)
    assert found.keys() == expected.keys()
    for query, hits in expected.items():
        assert [hit[1] for hit in found[query]] == pytest.approx([hit[1] for hit in hits], abs=ROUNDING)
        titles = {id_: title for id_, _, title in found[query]}
        clear = [
            hit for hit in hits if hit[1] > hits[-1][1] + 2 * ROUNDING
        ]  # better than the last, whatever the rounding
        assert all(titles[id_] == title for id_, _, title in clear)
    assert verify_index(tmp_path / version / "text.colindex") == []
    assert verify_index(tmp_path / version / "vectors.colindex") == []


def test_the_current_version_has_a_golden_folder() -> None:
    assert f"format-v{FORMAT_VERSION}" in VERSIONS, "python -m tests.test_golden makes it"


def make() -> None:
    folder = GOLDEN / f"format-v{FORMAT_VERSION}"
    if folder.exists():
        return
    pooled = BuildParams(pool_factor=2, segment_tokens=200)
    Index.build(folder / "text.colindex", documents(60), WordEncoder(), pooled)
    Index.build_from_vectors(folder / "vectors.colindex", batches(40), BuildParams(bits=4, dim=8))
    with Index.open(folder / "text.colindex", encoder=WordEncoder()) as index:
        index.upsert(
            [replace(document, id=f"doc-{50 + number}") for number, document in enumerate(documents(20, seed=1))]
        )
        index.delete(["doc-3", "doc-69"])
    for left in [*folder.rglob("lock.mdb"), *folder.rglob("writer.lock")]:
        left.unlink()
    (folder / "answers.json").write_text(json.dumps(answers(folder), indent=1) + "\n")
    for left in folder.rglob("lock.mdb"):
        left.unlink()


if __name__ == "__main__":
    make()
