"""`colindex inspect`: what a score is made of, on stdout, in a page, beside another document or index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colindex import BuildParams, Document, Index
from colindex.views.figures import decimal
from colindex.views.html import comparison_page, match_page
from tests.cli.conftest import Run, word_encoder
from tests.words import WordEncoder

QUERY = "amber rare7"


@pytest.fixture(scope="module")
def pooled_path(tmp_path_factory: pytest.TempPathFactory, corpus_documents: list[Document]) -> Path:
    path = tmp_path_factory.mktemp("pooled") / "pooled.colindex"
    Index.build(path, corpus_documents, word_encoder(), BuildParams(pool_factor=2))
    return path


def test_json_is_the_match(run: Run, index_path: Path) -> None:
    result = run("inspect", index_path, QUERY, "doc-7", "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    with Index.open(index_path, encoder=word_encoder()) as index:
        assert found == index.inspect(QUERY, "doc-7").to_dict()
        (hit,) = [hit for hit in index.search(QUERY, k=120) if hit.id == "doc-7"]
    assert sum(part["score"] for part in found["contributions"]) == pytest.approx(hit.score, rel=1e-6)


def test_the_table_shows_contributions_and_text(run: Run, index_path: Path) -> None:
    result = run("inspect", index_path, QUERY, "doc-7")
    assert (result.exit_code, result.stderr) == (0, "")
    with Index.open(index_path, encoder=word_encoder()) as index:
        match = index.inspect(QUERY, "doc-7")
    assert f"score {decimal(match.score)}" in result.stdout
    assert all(decimal(part.score) in result.stdout for part in match.contributions)
    assert "rare7²" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_page_is_written_beside_the_table(run: Run, index_path: Path, tmp_path: Path) -> None:
    page = tmp_path / "match.html"
    result = run("inspect", index_path, QUERY, "doc-7", "--html", page)
    assert result.exit_code == 0
    assert result.stderr == f"Wrote {page}.\n"
    assert "rare7²" in result.stdout
    with Index.open(index_path, encoder=word_encoder()) as index:
        assert page.read_text("utf-8") == match_page(index.inspect(QUERY, "doc-7"))


def test_without_the_exact_similarities(run: Run, index_path: Path) -> None:
    found = json.loads(run("inspect", index_path, QUERY, "doc-7", "--format", "json", "--no-exact").stdout)
    assert (found["exact"], found["exact_score"]) == (None, None)
    assert "before quantization" not in run("inspect", index_path, QUERY, "doc-7", "--no-exact").stdout


def test_against_another_document(run: Run, index_path: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("inspect", index_path, QUERY, "doc-7", "--against", "doc-8", "--format", "json", "--html", page)
    found = json.loads(run(*arguments).stdout)
    with Index.open(index_path, encoder=word_encoder()) as index:
        comparison = index.inspect(QUERY, "doc-7").compare(index.inspect(QUERY, "doc-8"))
    assert found == comparison.to_dict()
    assert found["names"] == ["doc-7", "doc-8"]
    assert page.read_text("utf-8") == comparison_page(comparison)
    assert "doc-8: " in run("inspect", index_path, QUERY, "doc-7", "--against", "doc-8").stdout


def test_against_another_index(run: Run, index_path: Path, pooled_path: Path) -> None:
    arguments = ("inspect", index_path, QUERY, "doc-7", "--against-index", pooled_path, "--format", "json")
    found = json.loads(run(*arguments).stdout)
    assert found["names"] == [str(index_path), str(pooled_path)]
    plain, pooled = found["matches"]
    assert len(plain["tokens"]) == len(pooled["tokens"])
    assert len(plain["similarities"][0]) > len(pooled["similarities"][0])
    both = json.loads(run(*arguments, "--against", "doc-8").stdout)
    assert both["names"] == [f"{index_path}: doc-7", f"{pooled_path}: doc-8"]
    assert both["matches"][1]["id"] == "doc-8"


def test_queries_from_standard_input(run: Run, index_path: Path, tmp_path: Path) -> None:
    result = run("inspect", index_path, "-", "doc-7", "--format", "json", stdin="amber\nrare7\n")
    assert [json.loads(line)["query"] for line in result.stdout.splitlines()] == ["amber", "rare7"]
    result = run("inspect", index_path, "-", "doc-7", "--html", tmp_path / "page.html", stdin="amber\nrare7\n")
    assert result.exit_code == 2
    assert "--html: expected one query, got 2" in result.stderr
    assert not (tmp_path / "page.html").exists()
    assert run("inspect", index_path, "-", "doc-7", "--html", tmp_path / "page.html", stdin="amber\n").exit_code == 0


@pytest.mark.parametrize("options", [["no-such-id"], ["doc-7", "--against", "no-such-id"]])
def test_a_document_that_is_not_there(run: Run, index_path: Path, options: list[str]) -> None:
    result = run("inspect", index_path, QUERY, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert "no-such-id" in result.stderr
    assert "`colindex search`" in result.stderr
    assert "in index`" not in result.stderr  # that is Python


def test_an_index_of_another_encoder_is_refused(run: Run, index_path: Path, tmp_path: Path) -> None:
    other = WordEncoder(salt=1)
    Index.build(tmp_path / "other", [Document("doc-7", "amber")], other)
    result = run("inspect", index_path, QUERY, "doc-7", "--against-index", tmp_path / "other")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the encoder is not the one that the index was built with" in result.stderr


def test_an_index_of_vectors_shows_positions(run: Run, tmp_path: Path) -> None:
    batch = WordEncoder().encode_documents([Document("c", "cedar amber")])
    Index.build_from_vectors(tmp_path / "v", [batch])
    result = run("inspect", tmp_path / "v", "amber", "c", "--encoder", "words")
    assert result.exit_code == 0, result.stderr
    assert "#1¹" in result.stdout
    assert "name one with --encoder" in run("inspect", tmp_path / "v", "amber", "c").stderr


def test_a_page_that_cannot_be_written_is_an_error(run: Run, index_path: Path, tmp_path: Path) -> None:
    result = run("inspect", index_path, QUERY, "doc-7", "--html", tmp_path / "gone" / "page.html")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr
