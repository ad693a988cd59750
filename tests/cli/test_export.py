"""`colindex export` and `colindex import`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colindex import Index
from tests.cli.conftest import Run, word_encoder


def hits(path: Path) -> list[object]:
    with Index.open(path, encoder=word_encoder()) as index:
        return [(hit.id, hit.score, hit.document) for hit in index.search("amber basin rare7", 20)]


@pytest.mark.parametrize("name", ["x", "x.tar", "x.tar.zst"])
def test_there_and_back(run: Run, index_path: Path, tmp_path: Path, name: str) -> None:
    exported = run("export", index_path, tmp_path / name)
    assert (exported.exit_code, exported.stderr) == (0, "")
    assert "documents    120" in exported.stdout
    imported = run("import", tmp_path / name, tmp_path / "back", "--format", "json")
    assert (imported.exit_code, imported.stderr) == (0, "")
    report = json.loads(imported.stdout)
    assert (report["documents"], report["generation"]) == (120, 1)
    assert hits(tmp_path / "back") == hits(index_path)
    assert (tmp_path / name).is_dir() == (name == "x")


def test_decoded_vectors_can_be_left_out(run: Run, index_path: Path, tmp_path: Path) -> None:
    sizes = [
        json.loads(run("export", index_path, tmp_path / name, *options, "--format", "json").stdout)["bytes"]
        for name, options in (("a", []), ("b", ["--no-vectors"]))
    ]
    assert sizes[1] < sizes[0]
    assert run("import", tmp_path / "b", tmp_path / "back").exit_code == 0
    assert hits(tmp_path / "back") == hits(index_path)


def test_a_copy_opens_at_once(run: Run, index_path: Path, tmp_path: Path) -> None:
    assert run("export", index_path, tmp_path / "backup.colindex", "--as-index").exit_code == 0
    assert run("verify", tmp_path / "backup.colindex").exit_code == 0
    assert hits(tmp_path / "backup.colindex") == hits(index_path)


@pytest.mark.parametrize("options", [["x.tar", "--as-index"], ["x", "--as-index", "--no-vectors"]])
def test_a_copy_is_a_folder_with_all_in_it(run: Run, index_path: Path, tmp_path: Path, options: list[str]) -> None:
    name, *rest = options
    result = run("export", index_path, tmp_path / name, *rest)
    assert result.exit_code == 2
    assert "--as-index" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.tar.gz", "x.TGZ", "x.zip", "x.zst"])
@pytest.mark.parametrize("options", [[], ["--as-index"]])
def test_an_archive_of_another_kind_is_refused(
    run: Run, index_path: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    result = run("export", index_path, tmp_path / name, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"ends in .tar or .tar.zst, got {name!r}; choose one of those." in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_destination_that_exists_is_left_alone(run: Run, index_path: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for arguments in (["export", index_path, tmp_path / "there"], ["import", index_path, tmp_path / "there"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "choose another, or remove it first" in result.stderr
    assert list((tmp_path / "there").iterdir()) == []


def test_something_else_is_not_imported(run: Run, index_path: Path, tmp_path: Path) -> None:
    result = run("import", index_path, tmp_path / "back")
    assert result.exit_code == 1
    assert "expected the manifest of an export, got an index, which opens as it is" in result.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "corpus.jsonl").write_text("{}\n")
    result = run("import", tmp_path / "corpus.jsonl", tmp_path / "back")
    assert result.exit_code == 1
    assert "corpus.jsonl: expected a folder, a .tar or a .tar.zst that `colindex export` wrote" in result.stderr
    (tmp_path / "folder").mkdir()
    result = run("import", tmp_path / "folder", tmp_path / "back")
    assert result.exit_code == 1
    assert "folder/manifest.json: expected the manifest of an export, got none" in result.stderr
    assert sorted(child.name for child in tmp_path.iterdir()) == ["corpus.jsonl", "folder"]


@pytest.mark.parametrize("command", ["export", "import"])
def test_an_interrupt_says_that_nothing_was_written(
    run: Run, index_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupted(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    run("export", index_path, tmp_path / "x")
    monkeypatch.setattr(f"colindex.{command}ing.publish", interrupted)
    result = run(command, index_path if command == "export" else tmp_path / "x", tmp_path / "new")
    assert result.exit_code == 1
    assert f"{tmp_path / 'new'} was not written" in result.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["x"]
