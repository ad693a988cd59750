"""`colindex verify --repair`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from colindex import Index
from colindex.cli import main
from tests.cli.conftest import Run

RECORDS, TEXTS, POSTINGS = "records/c/0/0", "documents/bytes/c/0", "postings/documents/c/0"


@pytest.fixture
def index(index_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_path, tmp_path / "my index"))


def damage(index: Path, *names: str) -> None:
    for name in names:
        path = index / "segments" / "000001.zarr" / name
        data = bytearray(path.read_bytes())
        data[min(100, len(data) // 2)] ^= 1
        path.write_bytes(data)


def count(index: Path) -> int:
    with Index.open(index) as opened:
        return len(opened)


def test_a_sound_index_needs_none(run: Run, index: Path) -> None:
    result = run("verify", index, "--repair", "--yes")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{index}: no findings.\n")
    assert run("verify", index, "--repair", "--format", "json").stdout == "null\n"


def test_what_costs_nothing_exits_with_0(run: Run, index: Path) -> None:
    damage(index, POSTINGS)
    result = run("verify", index, "--repair", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "A repair loses 0 documents of 120.\nWritten anew from what is sound: 1 segment (000001).\n" in result.stderr
    assert f"{index} is at generation 2, with 120 documents; no findings left." in result.stderr
    assert run("verify", index).exit_code == 0


def test_lost_documents_are_named_reported_and_can_be_added_again(run: Run, index: Path) -> None:
    damage(index, RECORDS)
    result = run("verify", index, "--repair", "--yes")
    assert result.exit_code == 1
    report_path, texts_path = (index.with_name(f"my index.repair-1{suffix}") for suffix in (".json", ".jsonl"))
    report = json.loads(report_path.read_text())
    lost = [each["id"] for each in report["lost"]]
    assert 0 < len(lost) == 120 - report["documents"] == 120 - count(index)
    assert all(id_ in result.stdout for id_ in lost[:20])
    assert f"Report: {report_path}" in result.stderr
    assert [json.loads(line)["_id"] for line in texts_path.read_text().splitlines()] == lost
    assert f"colindex add '{index}' '{texts_path}' --upsert" in result.stderr
    assert run("add", index, texts_path).exit_code == 0
    assert count(index) == 120
    assert run("verify", index).exit_code == 0


def test_the_report_as_json(run: Run, index: Path) -> None:
    damage(index, TEXTS)
    result = run("verify", index, "--repair", "--yes", "--format", "json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [each["reason"] for each in report["lost"]] == ["its text is damaged"]
    assert (report["before"], report["generation"], report["documents"]) == (1, 2, 119)
    assert "texts" not in report
    saved = json.loads(Path(report["report"]).read_text())
    assert saved == {name: value for name, value in report.items() if name != "report"}


def test_a_dry_run_and_a_no_change_nothing(run: Run, index: Path) -> None:
    damage(index, RECORDS)
    plan = run("verify", index, "--repair", "--dry-run", "--format", "json")
    assert plan.exit_code == 1
    assert json.loads(plan.stdout)["dry_run"] is True
    refused = run("verify", index, "--repair", stdin="n\n")
    assert refused.exit_code == 1
    assert f"Repair {index}? [y/N]:" in refused.stderr
    assert [child.name for child in index.parent.iterdir()] == [index.name]
    assert run("verify", index).exit_code == 1
    assert run("verify", index, "--repair", stdin="y\n").stderr.count("no findings left") == 1


def test_what_cannot_be_repaired_is_an_error(run: Run, index: Path) -> None:
    path = index / "codebook-000001.zarr" / "projection" / "c" / "0" / "0"
    path.write_bytes(b"")
    result = run("verify", index, "--repair", "--yes")
    assert result.exit_code == 1
    assert "the codebook is damaged" in result.stderr
    assert "cannot be repaired" in result.stderr


def test_an_interrupt_says_where_the_report_is(run: Run, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(index, RECORDS)

    def interrupted(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("colindex.storage.catalog.Catalog.commit", interrupted)
        result = run("verify", index, "--repair", "--yes")
    assert result.exit_code == 1
    report = index.with_name("my index.repair-1.json")
    assert f"what it would do is in {report}. Run the command again." in result.stderr
    assert json.loads(report.read_text())["dry_run"] is True
    assert "no findings left" in run("verify", index, "--repair", "--yes").stderr


def test_texts_are_on_the_disk_before_the_index_gives_them_up(
    run: Run, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(index, RECORDS)
    texts, synced, fsync = index.with_name("my index.repair-1.jsonl"), set(), os.fsync

    def noted(descriptor: int) -> None:
        synced.add((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        fsync(descriptor)

    def committing(*arguments: object, **settings: object) -> None:
        assert (texts.stat().st_ino, texts.stat().st_size) in synced
        assert texts.parent.stat().st_ino in {inode for inode, _ in synced}
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", noted)
        patch.setattr("colindex.storage.catalog.Catalog.commit", committing)
        assert "The repair was interrupted" in run("verify", index, "--repair", "--yes").stderr


@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_options_of_a_repair_alone_are_wrong_usage(index: Path, option: str) -> None:
    result = CliRunner().invoke(main, ["verify", str(index), option])
    assert result.exit_code == 2
    assert "go with --repair" in result.stderr
