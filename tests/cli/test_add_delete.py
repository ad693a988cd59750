"""`colindex add` and `colindex delete`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from colindex import Document, Index
from colindex.cli import changes
from colindex.storage.lock import WriterLock
from colindex.storage.verify import verify_index
from tests.cli.conftest import Run, word_encoder
from tests.words import WordEncoder, batches


@pytest.fixture
def index(index_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_path, tmp_path / "words.colindex"))


def lines(*documents: Document) -> str:
    return "".join(json.dumps({"_id": d.id, "text": d.text, **d.metadata}) + "\n" for d in documents)


NEW = lines(Document("new-1", "quokka amber", metadata={"year": 2020}), Document("new-2", "quokka"))


def table(result: Result) -> dict[str, str]:
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def found(path: Path, query: str) -> dict[str, str]:
    """Id and text of the best two documents."""
    with Index.open(path, encoder=word_encoder()) as index:
        return {hit.id: hit.document.text for hit in index.search(query, k=2)}


def state(path: Path) -> tuple[int, int]:
    """Generation and number of documents; verifies the index besides."""
    assert verify_index(path) == []
    with Index.open(path) as index:
        return index.manifest.generation, len(index)


def test_add_makes_documents_found_and_says_what_it_did(run: Run, index: Path) -> None:
    result = run("add", index, "-", stdin=NEW)
    assert (result.exit_code, result.stderr) == (0, "")
    facts = table(result)
    expected = {"added": "2", "replaced": "0", "tokens": "3", "documents": "122", "generation": "2"}
    assert expected.items() <= facts.items()
    assert int(facts["centroids"]) <= 2, "one for each new word at most"
    assert facts["bytes"].endswith(("B", "KiB"))
    assert float(facts["seconds"]) >= 0
    assert found(index, "quokka") == {"new-1": "quokka amber", "new-2": "quokka"}
    assert state(index) == (2, 122)


def test_add_as_json_is_the_report(run: Run, index: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("new-1\tquokka\n")
    report = json.loads(run("add", index, tmp_path / "a.tsv", "-", "--format", "json", stdin=lines()).stdout)
    assert {"added": 1, "replaced": 0, "deleted": 0, "documents": 121, "generation": 2}.items() <= report.items()
    assert set(report["seconds"]) == {"ingest", "locate", "expand", "encode", "commit"}
    written = sum(file.stat().st_size for file in (index / "segments" / "000002.zarr").rglob("*") if file.is_file())
    assert report["bytes"] == written


def test_options_of_add_reach_the_encoder(run: Run, index: Path, loaded: list[tuple[str, dict[str, Any]]]) -> None:
    assert run("add", index, "-", stdin=NEW).exit_code == 0
    options = ("--encoder", "elsewhere/words", "--device", "cpu", "--batch-size", "7", "--threads", "1")
    assert run("add", index, "-", "--upsert", *options, stdin=NEW).exit_code == 0
    assert loaded == [
        ("words", {"device": None, "batch_size": 32, "window": "document"}),
        ("elsewhere/words", {"device": "cpu", "batch_size": 7, "window": "document"}),
    ]


def test_an_id_that_is_there_needs_upsert(run: Run, index: Path) -> None:
    text = lines(Document("doc-3", "quokka"), Document("new-1", "quokka amber"))
    refused = run("add", index, "-", stdin=text)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "'doc-3'" in refused.stderr
    assert "--upsert" in refused.stderr
    assert state(index) == (1, 120)
    facts = table(run("add", index, "-", "--upsert", stdin=text))
    assert (facts["added"], facts["replaced"], facts["documents"]) == ("1", "1", "121")
    assert found(index, "quokka")["doc-3"] == "quokka"


@pytest.mark.parametrize("arguments", [("add", "-"), ("delete", "doc-1")])
def test_a_dry_run_changes_nothing(run: Run, index: Path, arguments: tuple[str, str]) -> None:
    command, rest = arguments
    result = run(command, index, rest, "--dry-run", stdin=NEW)
    assert result.exit_code == 0
    assert result.stderr.startswith("Dry run: nothing was written")
    assert table(result)["documents"] == ("122" if command == "add" else "119")
    assert state(index) == (1, 120)


def test_a_malformed_line_adds_nothing_unless_skipped(run: Run, index: Path) -> None:
    refused = run("add", index, "-", stdin=NEW + "oops\n")
    assert refused.exit_code == 1
    assert "standard input, line 3" in refused.stderr
    assert state(index) == (1, 120)
    result = run("add", index, "-", "--skip-invalid", stdin=NEW + "oops\n")
    assert "Skipped 1 invalid record, first:" in result.stderr
    assert state(index) == (2, 122)


def test_an_index_of_vectors_sends_to_python(
    run: Run, tmp_path: Path, loaded: list[tuple[str, dict[str, Any]]]
) -> None:
    Index.build_from_vectors(tmp_path / "v", batches(5))
    result = run("add", tmp_path / "v", "-", "--encoder", "words", stdin=NEW)
    assert (result.exit_code, loaded) == (1, [])
    assert "built from vectors" in result.stderr
    assert "index.add_vectors(batches)" in result.stderr
    assert run("delete", tmp_path / "v", "v0", "v3").exit_code == 0
    assert state(tmp_path / "v") == (2, 3)


def test_another_encoder_is_refused(run: Run, index: Path) -> None:
    result = run("add", index, "-", "--encoder", "other", stdin=NEW)
    assert result.exit_code == 1
    assert "salt" in result.stderr
    assert state(index) == (1, 120)


def test_delete_by_id(run: Run, index: Path) -> None:
    result = run("delete", index, "doc-3", "doc-7", "doc-3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert {"deleted": "2", "documents": "118", "generation": "2"}.items() <= table(result).items()
    assert not {"doc-3", "doc-7"} & set(found(index, "rare3 rare7"))
    assert state(index) == (2, 118)


@pytest.mark.parametrize(
    "text",
    [
        "doc-3\r\n\ndoc-7",
        '{"_id": "doc-3", "text": "x"}\n\n{"_id": "doc-7"}\n',
        '{"query_id": "1", "rank": 1, "id": "doc-3", "score": 1.5}\n{"query_id": "2", "id": "doc-7"}\n{"id": "doc-3"}\n',
    ],
    ids=["lines", "records", "hits"],
)
@pytest.mark.parametrize("way", ["dash", "from dash", "file"])
def test_delete_by_file_or_standard_input(run: Run, index: Path, tmp_path: Path, text: str, way: str) -> None:
    (tmp_path / "ids").write_text(text)
    arguments = {"dash": ["-"], "from dash": ["--from", "-"], "file": ["--from", str(tmp_path / "ids")]}[way]
    result = run("delete", index, *arguments, stdin=text)
    assert table(result)["deleted"] == "2", result.stderr
    assert state(index) == (2, 118)


def test_hits_of_a_search_can_be_deleted(run: Run, index: Path) -> None:
    hits = run("search", index, "rare5", "-k", "1", "--format", "jsonl").stdout
    assert table(run("delete", index, "-", stdin=hits))["deleted"] == "1"
    assert "doc-5" not in found(index, "rare5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an id or more, found none"),
        ('{"id": "doc-3"}\noops\n', "line 2, column 1: expected JSON"),
        ('{"id": "doc-3"}\n{"text": "x"}\n', "line 2: expected a field `_id` or `id`, found none"),
        ("doc-3\n" + "x" * 512 + "\n", "line 2: expected an id of 1 to 511 bytes"),
        ("doc-3\nnobody\n", "got 'nobody'; nothing was deleted"),
    ],
)
def test_wrong_ids_delete_nothing(run: Run, index: Path, text: str, message: str) -> None:
    result = run("delete", index, "-", stdin=text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert state(index) == (1, 120)


def test_ids_that_are_not_there_may_be_passed_over(run: Run, index: Path) -> None:
    assert table(run("delete", index, "nobody", "doc-3", "--missing-ok"))["deleted"] == "1"
    facts = table(run("delete", index, "doc-3", "--missing-ok"))
    assert (facts["deleted"], facts["generation"]) == ("0", "2")


@pytest.mark.parametrize("arguments", [["add", "-"], ["delete", "doc-1"]])
def test_a_second_writer_is_told_who_the_first_is(run: Run, index: Path, arguments: list[str]) -> None:
    command, rest = arguments
    with WriterLock(index):
        result = run(command, index, rest, stdin=NEW)
    assert result.exit_code == 1
    assert "is being written by process" in result.stderr


def test_an_interrupt_says_that_nothing_has_changed(run: Run, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: WordEncoder, documents: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WordEncoder, "encode_documents", interrupted)
        result = run("add", index, "-", stdin=NEW)
    assert result.exit_code == 1
    assert f"{index} is unchanged, at generation 1. Run the command again" in result.stderr
    assert result.stderr.endswith("Aborted!\n")
    assert run("add", index, "-", stdin=NEW).exit_code == 0
    assert state(index) == (2, 122)


def test_an_interrupt_after_the_commit_says_that_it_was_in_time(
    run: Run, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([None, KeyboardInterrupt])

    def remove(path: Path, manifest: object) -> list[Path]:
        if (error := next(calls)) is not None:
            raise error
        return []

    with monkeypatch.context() as patch:
        patch.setattr("colindex.change.remove_strays", remove)
        result = run("delete", index, "doc-1")
    assert result.exit_code == 1
    assert f"{index} is changed, at generation 2." in result.stderr
    assert state(index) == (2, 119)


def test_much_to_tidy_brings_advice_that_says_what_it_would_bring(
    run: Run, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_MANY_SEGMENTS", 3)
    assert run("add", index, "-", stdin=lines(Document("new-1", "quokka"))).stderr == ""
    result = run("add", index, "-", stdin=lines(Document("new-2", "quokka")))
    assert f"{index} has 3 segments, and 0 of its 122 documents are deleted; to make that " in result.stderr
    assert f"colindex compact {index}" in result.stderr
    assert run("compact", index, "--full").exit_code == 0
    result = run("delete", index, *(f"doc-{number}" for number in range(40)))
    assert "has 1 segment, and 40 of its 122 documents are deleted; to make that 1 segment and 0: " in result.stderr


def test_delete_by_a_condition(run: Run, index: Path) -> None:
    assert run("delete", index, "doc-1").exit_code == 0
    plan = run("delete", index, "--where", "number < 5", "--dry-run")
    assert (table(plan)["deleted"], state(index)) == ("4", (2, 119))
    assert table(run("delete", index, "--where", "number < 5 OR id = 'doc-9'"))["deleted"] == "5"
    assert state(index) == (3, 114)
    with Index.open(index) as opened:
        assert [n for n in range(12) if f"doc-{n}" in opened] == [5, 6, 7, 8, 10, 11]
    assert table(run("delete", index, "--where", "number < 5"))["deleted"] == "0"


def test_a_bad_condition_deletes_nothing(run: Run, index: Path) -> None:
    result = run("delete", index, "--where", "nonsense = 1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nonsense" in result.stderr
    assert state(index) == (1, 120)


def test_what_is_said_of_a_growing_index_is_true(run: Run, index: Path, corpus_documents: list[Document]) -> None:
    for round_ in range(3):
        changed = [replace(d, text=f"round{round_} {d.text}") for d in corpus_documents[round_ * 10 : round_ * 10 + 20]]
        report = json.loads(run("add", index, "-", "--upsert", "--format", "json", stdin=lines(*changed)).stdout)
        assert (report["replaced"], report["added"], report["documents"]) == (20, 0, 120)
        assert report["generation"] == round_ + 2
    assert state(index) == (4, 120)
