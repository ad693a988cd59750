"""The peer benchmark's own parts: what is computed from the rows, what is shown, and who takes part."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import peers
from benchmarks.peer_contestants import CONTESTANTS, chosen, label
from benchmarks.peer_data import Collection
from benchmarks.peer_report import (
    BEGIN,
    END,
    build_cells,
    build_table,
    markdown,
    plot,
    readme_block,
    search_cells,
    search_table,
    with_block,
)
from benchmarks.peer_results import BuildRow, Results, SearchRow, frontier, recall, summary
from benchmarks.peer_worker import ADAPTERS


def row(name: str, recall_: float | None, median: float | None, **more: object) -> SearchRow:
    values = {
        "name": name,
        "engine": name.split(" ")[0],
        "setting": "s",
        "recall": recall_,
        "median_ms": median,
        **more,
    }
    return SearchRow(**{"p95_ms": median, **values})  # type: ignore[arg-type]


def results(searches: Sequence[SearchRow], builds: Sequence[BuildRow] = (), **more: object) -> Results:
    values: dict[str, object] = {
        "collection": "tiny",
        "subset": None,
        "documents": 20,
        "tokens": 100,
        "dim": 8,
        "queries": 3,
        "k": 10,
        "search_threads": 1,
        "build_threads": 2,
        "machine": "2 cores",
        "commit": "abc",
        "date": "2026-01-02T03:04+00:00",
        "command": "python -m benchmarks.peers v",
        "builds": tuple(builds),
        "searches": tuple(searches),
    }
    return Results(**{**values, **more})  # type: ignore[arg-type]


OURS = (row("colindex (bits 2)", 0.90, 1.0), row("colindex (bits 2)", 0.95, 2.0), row("colindex (bits 4)", 0.97, 1.5))
PEER = row("tachiom", 0.93, 12.0, note="as it comes")
FAILED = row("fast-plaid", None, None, reason="build not done after 3,600 s")


# ---- what is computed


def test_recall_counts_documents_not_places() -> None:
    assert recall([[1, 2, 3], [9, 8, 7]], [[3, 2, 1], [7, 1, 2]]) == pytest.approx(2 / 3)


def test_a_shorter_answer_and_a_repeated_document_find_no_more_than_they_hold() -> None:
    assert recall([[1], [5, 5, 5]], [[1, 2], [5, 6]]) == 0.5


def test_latency_is_the_median_over_repetitions_then_over_queries() -> None:
    seconds = [[0.001, 0.010, 0.002], [0.9, 0.010, 0.002], [0.001, 0.020, 0.002]]  # one stall counts for nothing
    median, p95 = summary(seconds)
    assert median == 2.0
    assert p95 == pytest.approx(np.percentile([1, 10, 2], 95), abs=1e-3)


def test_equal_recall_means_our_fastest_row_that_finds_as_much() -> None:
    found = results([*OURS, PEER])
    ours = found.equal(PEER)
    assert ours is not None
    assert (ours.name, ours.median_ms) == ("colindex (bits 4)", 1.5)
    assert found.faster(PEER) == pytest.approx(8)


def test_nothing_is_compared_with_rows_that_cannot_be() -> None:
    beyond, given = row("exact", 1.0, 100.0), row("maxsim-cpu", 0.9, 1.0, refines=True)
    found = results([*OURS, beyond, given, FAILED])
    assert [found.faster(one) for one in (beyond, given, FAILED, OURS[0])] == [None] * 4
    assert search_cells(found, beyond)[-1] == "not reached"
    assert search_cells(found, given)[-1] == ""
    assert search_cells(results([beyond]), beyond)[-1] == ""  # colindex took no part


def test_builds_are_compared_with_our_slowest() -> None:
    builds = [
        BuildRow(name="colindex (bits 2)", engine="colindex", seconds=8.0),
        BuildRow(name="colindex (bits 4)", engine="colindex", seconds=10.0),
        BuildRow(name="tachiom", engine="tachiom", seconds=70.0),
        BuildRow(name="fast-plaid", engine="fast-plaid", reason="not done"),
    ]
    found = results([], builds)
    assert [found.builds_faster(build) for build in builds] == [None, None, 7.0, None]


def test_a_build_that_was_given_up_took_longer_than_its_limit() -> None:
    ours = BuildRow(name="colindex (bits 4)", engine="colindex", seconds=5.91)
    given_up = BuildRow(name="fast-plaid", engine="fast-plaid", given_up=150.0, reason="build not done after 150 s")
    found = results([FAILED], [ours, given_up])
    assert build_cells(found, given_up)[2:] == ["> 150", "", "", "> 25.3"]  # 25.38, rounded down: it holds
    assert build_cells(results([FAILED], [given_up]), given_up)[2:] == ["> 150", "", "", ""]
    assert "| fast-plaid |  | > 150 |  |  | > 25.3 |" in markdown(found)
    assert "| fast-plaid | s | failed: build not done after" in markdown(found)


def test_frontier_drops_what_is_slower_and_finds_no_more() -> None:
    rows = [row("a", 0.9, 5.0), row("a", 0.8, 1.0), row("a", 0.8, 2.0), row("a", 0.7, 9.0), FAILED]
    assert [(one.recall, one.median_ms) for one in frontier(rows)] == [(0.8, 1.0), (0.9, 5.0)]


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    build = BuildRow(name="tachiom", engine="tachiom", seconds=70.0, bytes_a_token=63.0)
    saved = results([*OURS, PEER, FAILED], [build], subset=1000)
    path = saved.save(tmp_path)
    assert path.name == "peers-tiny-1000.json"
    assert Results.load(path) == saved


# ---- what is shown


def test_tables_name_the_reason_of_a_failure() -> None:
    build = BuildRow(name="fast-plaid", engine="fast-plaid", reason="build: no room on the disk")
    found = results([*OURS, PEER, FAILED], [build])
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(search_table(found), build_table(found))
    shown = console.export_text()
    for text in (shown, markdown(found)):
        assert text.count("failed: build not done after 3,600 s") == 1
        assert text.count("failed: build: no room on the disk") == 1


def test_markdown_tables_have_as_many_cells_as_headings() -> None:
    broken = row("tachiom", None, None, reason="PanicException: a | b")
    text = markdown(results([*OURS, PEER, FAILED, broken], [BuildRow(name="t", engine="t", seconds=1.0)]))
    for table in text.split("\n\n"):
        cells = {line.replace("\\|", "").count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(cells) <= 1
    assert "tachiom: as it comes." in text


def test_readme_shows_the_frontier_and_the_failures() -> None:
    block = readme_block([results([*OURS, row("tachiom", 0.5, 30.0), PEER, FAILED])], "benchmarks/results")
    assert "(benchmarks/results/peers-tiny.svg)" in block
    assert block.count("| tachiom |") == 1
    assert "| 8.0 |" in block
    assert "not done after" in block


def test_block_replaces_what_stands_between_the_marks_and_nothing_else() -> None:
    text = f"# Title\n\n{BEGIN}\nold\n{END}\nrest\n"
    once = with_block(text, "new | table")
    assert once == f"# Title\n\n{BEGIN}\nnew | table\n{END}\nrest\n"
    assert with_block(once, "new | table") == once


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_missing_or_doubled_marks_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected one line"):
        with_block(text, "new")


def test_plot_is_the_same_file_for_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = results([*OURS, PEER, FAILED, row("maxsim-cpu", 1.0, 3.0, refines=True)])
    vector, picture = plot(found, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = vector.read_bytes()
    plot(found, tmp_path)
    assert vector.read_bytes() == first


def test_readme_command_rewrites_the_block(tmp_path: Path) -> None:
    readme, folder = tmp_path / "README.md", tmp_path / "results"
    folder.mkdir()
    readme.write_text(f"a\n{BEGIN}\n{END}\nb\n", encoding="utf-8")
    results([*OURS, PEER], subset=1000).save(folder)
    results([*OURS, PEER]).save(folder)
    used = peers.rewrite_readme(readme, folder)
    assert [path.name for path in used] == ["peers-tiny.json", "peers-tiny-1000.json"]
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("a\n") and text.endswith("b\n")
    assert text.index("**tiny:") < text.index("**tiny-1000:")


# ---- who takes part


def test_every_contestant_has_an_adapter_a_name_and_a_folder_of_its_own() -> None:
    assert {one.engine for one in CONTESTANTS} == set(ADAPTERS)
    for values in ([one.name for one in CONTESTANTS], [one.slug for one in CONTESTANTS]):
        assert len(set(values)) == len(values)
    for one in CONTESTANTS:
        assert len({label(setting) for setting in one.searches}) == len(one.searches)


def test_engines_are_chosen_by_name() -> None:
    assert {one.engine for one in chosen(["colindex", "exact"])} == {"colindex", "exact"}
    assert chosen([]) == CONTESTANTS


def test_an_unknown_engine_is_named_with_those_there_are() -> None:
    answer = CliRunner().invoke(peers.main, ["--engines", "colindex,nope"])
    assert answer.exit_code == 2
    assert "nope" in answer.output and "tachiom" in answer.output


def test_the_recorded_command_names_no_folder_of_this_machine() -> None:
    arguments = ["v", "--subset", "20", "--engines", "exact,tachiom", "--scratch", "/somewhere", "--rebuild"]
    with peers.main.make_context("peers", ["benchmarks", *arguments[1:]]) as context:
        told = peers.command(context, Collection("tiny", 20, Path(), 20, 100, 3))
    assert sorted(told.split()[3:]) == sorted(["VECTORS/tiny", *arguments[1:5], "--rebuild"])
