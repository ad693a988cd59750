"""`colindex build`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from colindex import Document, Index
from colindex.cli.build import resume_command
from tests.cli.conftest import Run, word_encoder
from tests.words import WordEncoder


def test_it_builds_what_the_library_builds(run: Run, corpus: Path, tmp_path: Path, index_path: Path) -> None:
    result = run("build", corpus, "-o", tmp_path / "x")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert f"Built {tmp_path / 'x'}: 120 documents" in result.stderr
    with (
        Index.open(tmp_path / "x", encoder=word_encoder()) as built,
        Index.open(index_path, encoder=word_encoder()) as expected,
    ):
        assert built.search("amber rare7") == expected.search("amber rare7")


def test_options_reach_the_build(
    run: Run, corpus: Path, tmp_path: Path, loaded: list[tuple[str, dict[str, Any]]]
) -> None:
    options = ("--bits", "4", "--pool-factor", "2", "--dim", "8", "--memory", "1GiB")
    encoder = ("--encoder", "some/model", "--window", "sentence", "--device", "cpu", "--batch-size", "7")
    result = run("build", corpus, "-o", tmp_path / "x", *options, *encoder)
    assert result.exit_code == 0, result.stderr
    assert loaded == [("some/model", {"device": "cpu", "batch_size": 7, "window": "sentence"})]
    with Index.open(tmp_path / "x") as index:
        assert (index.manifest.bits, index.manifest.dim) == (4, 8)
        assert index.manifest.params["pool_factor"] == 2
        assert index.manifest.params["memory"] == "1GiB"


def test_a_bound_that_no_build_keeps_is_refused_before_a_model_is_loaded(
    run: Run, corpus: Path, tmp_path: Path, loaded: list[tuple[str, dict[str, Any]]]
) -> None:
    result = run("build", corpus, "-o", tmp_path / "x", "--memory", "1KiB")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected at least 640 MiB for a build" in " ".join(result.stderr.split())
    assert "got '1KiB'; pass a larger one" in " ".join(result.stderr.split())
    assert not loaded
    assert not (tmp_path / "x").exists()
    assert run("build", corpus, "-o", tmp_path / "x", "--memory", "640MiB").exit_code == 0


def test_several_files_and_standard_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a\tamber\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"id,text,lang\nb,basin,en\n"))
    lines = json.dumps({"_id": "c", "text": "cedar"}) + "\n"
    result = run("build", tmp_path / "a.tsv", tmp_path / "b.csv.gz", "-", "-o", tmp_path / "x", stdin=lines)
    assert result.exit_code == 0, result.stderr
    with Index.open(tmp_path / "x", encoder=word_encoder()) as index:
        assert len(index) == 3
        assert index.search("basin", k=1)[0].document == Document("b", "basin", metadata={"lang": "en"})
        assert index.search("cedar", k=1)[0].id == "c"


def test_a_malformed_line_ends_the_build(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"_id": "a", "text": "amber"}\noops\n')
    result = run("build", tmp_path / "c.jsonl", "-o", tmp_path / "x")
    assert result.exit_code == 1
    assert f"Error: {tmp_path / 'c.jsonl'}, line 2, column 1: expected JSON" in result.stderr
    assert not (tmp_path / "x").exists()


def test_malformed_lines_are_counted_where_asked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"_id": "a", "text": "amber"}\noops\n{"_id": "b"}\n')
    result = run("build", tmp_path / "c.jsonl", "-o", tmp_path / "x", "--skip-invalid")
    assert result.exit_code == 0
    assert "Skipped 2 invalid records" in result.stderr
    assert "line 2, column 1" in result.stderr
    assert "line 3: expected a field `text`" in result.stderr
    assert ": 1 document, 1 vector, 1 segment; " in result.stderr


def test_a_folder_of_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "a.txt").write_text("amber\n")
    (tmp_path / "notes" / "deep" / "b.md").write_text("basin\n")
    assert run("build", tmp_path / "notes", "-o", tmp_path / "x").exit_code == 0
    with Index.open(tmp_path / "x", encoder=word_encoder()) as index:
        assert [hit.id for hit in index.search("basin", k=2)] == ["deep/b.md", "a.txt"]


def test_an_id_that_occurs_twice_is_an_error(run: Run, corpus: Path, tmp_path: Path) -> None:
    result = run("build", corpus, corpus, "-o", tmp_path / "x")
    assert result.exit_code == 1
    assert "doc-0" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "x").exists()


def test_an_empty_corpus_is_an_error(run: Run, tmp_path: Path) -> None:
    result = run("build", "-", "-o", tmp_path / "x", stdin="")
    assert result.exit_code == 1
    assert "expected at least one document" in result.stderr


def test_an_output_that_exists_is_left_alone(run: Run, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "precious").write_text("data")
    result = run("build", corpus, "-o", tmp_path / "x")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert (tmp_path / "x" / "precious").read_text() == "data"


def test_an_interrupted_build_goes_on(run: Run, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: WordEncoder, documents: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WordEncoder, "encode_documents", interrupted)
        result = run("build", corpus, "-o", tmp_path / "x")
    assert result.exit_code == 1
    assert f"To go on: colindex build --resume {corpus} -o {tmp_path / 'x'}" in result.stderr
    assert result.stderr.endswith("Aborted!\n")

    again = run("build", corpus, "-o", tmp_path / "x")
    assert again.exit_code == 1
    assert "--resume" in again.stderr

    other = run("build", "--resume", "-", "-o", tmp_path / "x", stdin='{"_id": "other", "text": "amber"}')
    assert other.exit_code == 1
    assert "the documents differ from those of the interrupted build: expected 'doc-0'" in other.stderr

    result = run("build", "--resume", corpus, "-o", tmp_path / "x")
    assert result.exit_code == 0, result.stderr
    with Index.open(tmp_path / "x") as index:
        assert len(index) == 120


def test_an_interrupt_before_anything_was_written(run: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("colindex.encoder.Encoder.load", interrupted)
    result = run("build", corpus, "-o", corpus.parent / "x")
    assert (result.exit_code, result.stderr.strip()) == (1, "Aborted!")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("build", "a b.jsonl", "-o", "x"), "colindex build --resume 'a b.jsonl' -o x"),
        (("--debug", "build", "-o", "x", "--", "-c"), "colindex --debug build --resume -o x -- -c"),
        (("build", "c", "-o", "x", "--resume"), "colindex build c -o x --resume"),
        (("build", "build", "-o", "build"), "colindex build --resume build -o build"),
    ],
)
def test_the_command_that_resumes(arguments: tuple[str, ...], expected: str) -> None:
    assert resume_command(arguments) == expected
