"""`colindex info` and `colindex verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import colindex
from colindex import Document, Index
from colindex.cli import info
from colindex.cli.output import counted
from colindex.kernels import chosen
from colindex.storage.blocks import engines
from tests.cli.conftest import Run
from tests.words import WordEncoder


def test_info_as_json(run: Run, index_path: Path) -> None:
    result = run("info", index_path, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    with Index.open(index_path) as index:
        stats, encoder = index.stats().as_dict(), index.manifest.encoder
    del stats["cache"]  # counters of searches
    rest = {"encoder": encoder, "drift": None, "columns": ["id", "title", "number"]}
    assert facts == {"path": str(index_path), **stats, **rest}
    assert facts["documents"] == 120
    assert facts["budget"] == 512 * 2**20


def test_info_as_table(run: Run, index_path: Path) -> None:
    lines = run("info", index_path, "--memory", "64MiB").stdout.splitlines()
    facts = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines if len(line.split()) > 1}
    assert facts["documents"] == "120"
    assert facts["budget"] == "64.0 MiB"
    assert facts["disk.records"].endswith(" KiB")
    assert facts["resident.codebook"].endswith(" KiB")
    assert not [name for name in facts if name.startswith("cache")]  # counters of searches, of which there was none
    assert facts["encoder.dim"] == "16"
    assert facts["columns"] == "id, title, number"


def test_info_of_an_index_that_has_grown_and_shrunk(run: Run, index_path: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(index_path, tmp_path / "grown"))
    with Index.open(path, encoder=WordEncoder()) as index:
        index.add([Document("new", "amber unheard")])
        index.delete(["doc-1", "doc-2"])
    facts = json.loads(run("info", path, "--format", "json").stdout)
    assert (facts["documents"], facts["deleted"], facts["generation"], facts["segments"]) == (119, 2, 3, 2)
    assert facts["drift"]["tokens"] == 2
    assert facts["drift"]["growth"] == pytest.approx(facts["tokens"] / (facts["tokens"] - 2))
    assert facts["drift"]["ratio"] == pytest.approx(facts["drift"]["energy"] / facts["drift"]["built_energy"])
    assert "drift.ratio" in run("info", path).stdout


def test_info_of_an_index_of_vectors(run: Run, tmp_path: Path) -> None:
    Index.build_from_vectors(tmp_path / "v", [WordEncoder().encode_documents([Document("a", "amber")])])
    assert json.loads(run("info", tmp_path / "v", "--format", "json").stdout)["encoder"] is None
    assert "encoder" in run("info", tmp_path / "v").stdout


def test_info_system(run: Run) -> None:
    result = run("info", "--system", "--format", "json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["colindex"] == colindex.__version__
    assert facts["packages"]["numpy"]
    assert facts["kernels"] == chosen.BODY
    assert facts["reads"] == engines()[0]
    native = chosen.BODY.startswith("native") and facts["reads"] != "python"
    assert ("missing" in facts) == (not native)
    assert facts["cpu"]["cores"] >= 1
    assert "packages.torch" in run("info", "--system").stdout


def test_info_system_says_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "BODY", "reference (NumPy)")
    monkeypatch.setattr(chosen, "MISSING", "No module named '_native'")
    facts = json.loads(run("info", "--system", "--format", "json").stdout)
    assert facts["kernels"] == "reference (NumPy)"
    assert facts["missing"].startswith("No module named '_native'; install a C++17 compiler")
    monkeypatch.setattr(chosen, "MISSING", "")
    monkeypatch.setattr("colindex.storage.blocks.engines", lambda: ("python",))
    assert "_reads" in json.loads(run("info", "--system", "--format", "json").stdout)["missing"]


def test_info_system_where_little_is_known(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(info, "_CPUINFO", tmp_path / "none")
    monkeypatch.setattr(info, "_PACKAGES", ("no-such-package",))
    facts = json.loads(run("info", "--system", "--format", "json").stdout)
    assert facts["cpu"]["features"] == []
    assert facts["cpu"]["model"]
    assert facts["packages"] == {"no-such-package": None}


def test_a_sound_index_has_no_findings(run: Run, index_path: Path) -> None:
    result = run("verify", index_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{index_path}: no findings.\n"
    assert json.loads(run("verify", index_path, "--format", "json").stdout) == []


@pytest.fixture
def damaged(index_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / "damaged"
    shutil.copytree(index_path, path)
    largest = max((path / "segments").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    return path


def test_findings_are_listed_and_exit_with_1(run: Run, damaged: Path) -> None:
    result = run("verify", damaged, "--format", "json")
    assert result.exit_code == 1
    findings = json.loads(result.stdout)
    assert {"kind", "path", "expected", "got", "message"} == set(findings[0])
    assert any(finding["kind"] == "checksum" for finding in findings)
    assert result.stderr == f"{damaged}: {counted(len(findings), 'finding')}.\n"

    table = run("verify", damaged)
    assert table.exit_code == 1
    assert "checksum" in table.stdout
