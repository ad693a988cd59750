"""`colindex compact`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, TokenBatch
from colindex.storage.verify import verify_index
from tests.cli.conftest import Run, word_encoder
from tests.words import documents


@pytest.fixture(scope="module")
def grown(index_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four segments, of which three are small, and deleted documents."""
    path = Path(shutil.copytree(index_path, tmp_path_factory.mktemp("compact") / "words.colindex"))
    with Index.open(path, encoder=word_encoder()) as index:
        for round_ in range(3):
            index.add([replace(d, id=f"{round_}-{d.id}") for d in documents(40, seed=round_ + 1)])
        index.delete([f"doc-{number}" for number in range(70)])
    return path


@pytest.fixture
def path(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown, tmp_path / "words.colindex"))


def hits(path: Path) -> list[tuple[str, float, Document]]:
    with Index.open(path, encoder=word_encoder()) as index:
        return [(hit.id, hit.score, hit.document) for hit in index.search("amber basin rare7", 200)]


def segments(path: Path) -> int:
    with Index.open(path) as index:
        return len(index.manifest.segments)


def test_it_merges_and_says_what_into_what(run: Run, path: Path, grown: Path) -> None:
    result = run("compact", path, "--full")
    assert result.exit_code == 0, result.stderr
    (row,) = (line.split() for line in result.stdout.splitlines() if "000001" in line)
    assert row[:7] == ["000001", "to", "000004", "4", "1", "170", "70"]
    assert f"{path}: 4 segments became 1, without 70 deleted documents; " in result.stderr
    assert (segments(path), hits(path)) == (1, hits(grown))
    assert verify_index(path) == []
    again = run("compact", path, "--full")
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr == f"{path}: nothing to do; 1 segment, 170 documents.\n"


def test_what_drops_nothing_says_nothing_of_it(run: Run, index_path: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(index_path, tmp_path / "words.colindex"))
    result = run("compact", path, "--retrain")
    assert result.exit_code == 0, result.stderr
    assert f"{path}: 1 segment became 1; " in result.stderr
    assert "deleted document" not in result.stderr


@pytest.mark.parametrize("bits", [2, 8])
def test_retraining_an_index_of_vectors_says_what_it_loses(run: Run, tmp_path: Path, bits: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    batch = TokenBatch.from_arrays([f"d{number}" for number in range(40)], list(vectors[:, None]))
    Index.build_from_vectors(tmp_path / "i", [batch], BuildParams(bits=bits))
    result = run("compact", tmp_path / "i", "--retrain", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert ("build it anew instead" in result.stderr) == (bits == 2)


def test_the_report_as_json(run: Run, path: Path) -> None:
    report = json.loads(run("compact", path, "--format", "json").stdout)
    assert {"segments_before": 4, "documents": 170, "dry_run": False}.items() <= report.items()
    assert report["segments_after"] == segments(path) < 4
    assert sum(run_["dropped"] for run_ in report["runs"]) == report["dropped"]
    assert report["bytes_freed"] >= report["bytes_read"]


def test_a_dry_run_tells_and_leaves_everything(run: Run, path: Path) -> None:
    before = {file: file.read_bytes() for file in (path / "segments").rglob("*") if file.is_file()}
    result = run("compact", path, "--full", "--dry-run")
    assert result.exit_code == 0
    assert "4 segments would become 1" in result.stderr
    assert result.stderr.endswith("Dry run: nothing was written; bytes written are an estimate.\n")
    assert {file: file.read_bytes() for file in (path / "segments").rglob("*") if file.is_file()} == before


def test_an_interrupt_says_what_state_the_index_is_in(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with Index.open(path) as index:
        generation = index.manifest.generation
    with monkeypatch.context() as patch:
        patch.setattr("colindex.storage.segment_writer.SegmentWriter.seal", interrupted)
        result = run("compact", path, "--full")
    assert result.exit_code == 1
    assert f"{path} is unchanged, at generation {generation}. Run the command again to go on." in result.stderr
    assert segments(path) == 4
    assert run("compact", path, "--full").exit_code == 0
    assert segments(path) == 1


def test_damage_is_not_copied(run: Run, path: Path) -> None:
    file = path / "segments" / "000002.zarr" / "records" / "c" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    result = run("compact", path, "--full")
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(file) in result.stderr
    assert segments(path) == 4


def test_retraining_codes_the_texts_anew(run: Run, path: Path, grown: Path) -> None:
    result = run("compact", path, "--retrain")
    assert result.exit_code == 0, result.stderr
    with Index.open(path) as index:
        assert (len(index), index.stats().deleted, index.manifest.drift) == (170, 0, None)
        codebook = index.manifest.codebook
    with Index.open(grown) as index:
        assert codebook > index.manifest.codebook
    assert hits(path)[0][0] == hits(grown)[0][0]
    assert verify_index(path) == []


def test_the_encoder_to_retrain_with_may_be_named(
    run: Run, path: Path, loaded: list[tuple[str, dict[str, Any]]]
) -> None:
    assert run("compact", path, "--retrain", "--encoder", "elsewhere/words", "--dry-run").exit_code == 0
    assert loaded == [], "a dry run encodes nothing"
    assert run("compact", path, "--retrain", "--encoder", "elsewhere/words").exit_code == 0
    assert loaded == [("elsewhere/words", {"window": "document"})]
