"""Columns of .csv and .tsv: which of them hold numbers, and what a condition on them finds."""

from __future__ import annotations

import gzip
import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.corpus import read_corpus
from colindex.number_columns import number, number_columns
from colindex.storage.conditions import Condition
from colindex.storage.metadata import MetadataTable, MetadataWriter

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of this name."""

    def written(name: str, text: str) -> Path:
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return written


def values(path: Path, key: str, skip_invalid: bool = False) -> list[object]:
    """What documents have there."""
    return [document.metadata[key] for document in read_corpus([path], skip_invalid=skip_invalid)]


def table(cells: list[str], separator: str = ",") -> str:
    """Documents with a column of these cells."""
    rows = [["id", "text", "x"], *([f"d{place}", "amber", cell] for place, cell in enumerate(cells))]
    return "".join(separator.join(row) + "\n" for row in rows)


# ---- one cell


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_json_writes_it_comes_back(value: float) -> None:
    found = number(json.dumps(value))
    assert found == value
    assert type(found) is type(value)


TEXTS = [
    "007",
    "-01",
    "+1",
    "1,000",
    " 5",
    "5 ",
    ".5",
    "5.",
    "1e",
    "nan",
    "inf",
    "NaN",
    "Infinity",
    "0x10",
    "1_000",
    "١٢",
    "--1",
    "-",
]


@pytest.mark.parametrize("cell", [*TEXTS, "", "true", "null", "2020-01-01", "1.2.3", "5\n"])
def test_everything_else_is_no_number(cell: str) -> None:
    assert number(cell) is None


@pytest.mark.parametrize("cell", [str(2**63), str(-(2**63) - 1), "9" * 5_000, "1e400", "-1e400"])
def test_a_number_that_64_bits_do_not_hold_is_none(cell: str) -> None:
    assert number(cell) is None


@given(st.text(max_size=30))
def test_what_is_a_number_is_json(cell: str) -> None:
    found = number(cell)
    assert found is None or (math.isfinite(found) and json.loads(cell) == found)


# ---- columns


def test_one_cell_that_is_no_number_keeps_its_column_text() -> None:
    rows = [["1", "1", "", "1"], ["2", "x", "", "2.5"], ["3", "3", "", ""]]
    assert number_columns(rows, range(4)) == {0, 3}


def test_only_candidates_are_looked_at_and_short_rows_say_nothing() -> None:
    assert number_columns([["1", "2", "3"], ["1"], []], [0, 2]) == {0, 2}
    assert number_columns([], [0]) == frozenset()


@pytest.mark.parametrize(
    ("name", "separator"), [("c.csv", ","), ("c.tsv", "\t"), ("c.csv.gz", ","), ("c.tsv.gz", "\t")]
)
def test_a_column_of_numbers_becomes_numbers(write: Write, name: str, separator: str) -> None:
    found = values(write(name, table(["2019", "", "-3", "2.50", "1e2"], separator)), "x")
    assert found == [2019, None, -3, 2.5, 100.0]
    assert [type(value) for value in found] == [int, type(None), int, float, float]


@pytest.mark.parametrize("cells", [["02134", "90210"], ["1", "n/a"], ["", ""], ["1", " "], ["7", "1e999"]])
def test_a_column_with_anything_else_stays_as_it_stands(write: Write, cells: list[str]) -> None:
    assert values(write("c.csv", table(cells)), "x") == cells


def test_the_last_row_decides_about_the_first(write: Write) -> None:
    many = [str(place) for place in range(3_000)]
    assert values(write("c.csv", table([*many, "x"])), "x") == [*many, "x"]
    assert values(write("d.csv", table(many)), "x") == list(range(3_000))


def test_ids_titles_and_texts_stay_text(write: Write) -> None:
    (document,) = read_corpus([write("c.csv", "_id,id,title,text\n7,8,1984,42\n")])
    assert (document.id, document.title, document.text, document.metadata) == ("7", "1984", "42", {"id": "8"})
    (other,) = read_corpus([write("c.tsv", "7\t42\n")])
    assert (other.id, other.text) == ("7", "42")


def test_each_file_is_judged_by_itself(write: Write) -> None:
    paths = [write("a.csv", table(["1"])), write("b.csv", table(["x"])), write("c.csv", table(["2"]))]
    assert [document.metadata["x"] for document in read_corpus(paths)] == [1, "x", 2]


def test_malformed_rows_say_nothing_about_columns(write: Write) -> None:
    path = write("c.csv", table(["1", "2"]) + 'e,amber,3,x\nf,"am"ber,x\ng,amber,4\n')
    assert values(path, "x", skip_invalid=True) == [1, 2, 4]


def test_a_line_that_is_not_utf8_says_nothing_about_columns(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_bytes(b"id\ttext\tx\na\tamber\t1\nb\t\xff\ty\nc\tamber\t2\n")
    assert values(tmp_path / "c.tsv", "x", skip_invalid=True) == [1, 2]


def test_a_pipe_is_read_once_and_its_columns_stay_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.csv")
    writer = threading.Thread(target=(tmp_path / "c.csv").write_text, args=(table(["1", "2"]),))
    writer.start()
    assert values(tmp_path / "c.csv", "x") == ["1", "2"]
    writer.join()


# ---- conditions


def chosen(folder: Path, source: Path, where: str) -> list[str]:
    """The documents of a file that a condition chooses."""
    documents = list(read_corpus([source]))
    writer = MetadataWriter()
    for document in documents:
        writer.append(document.id, document.title, document.metadata)
    path = folder / f"{len(list(folder.iterdir()))}.sqlite"
    total = writer.finish(path)
    opened = MetadataTable(path, total, len(documents))
    bits = np.unpackbits(
        opened.choose(Condition.parse(where), frozenset({"x"})), count=len(documents), bitorder="little"
    )
    return [document.id for document, is_in in zip(documents, bits, strict=True) if is_in]


def test_a_condition_compares_numbers_with_numbers(write: Write, tmp_path: Path) -> None:
    source = write("c.csv", table(["1999", "2020", "", "2021.5", "300"]))
    assert chosen(tmp_path, source, "x >= 2020") == ["d1", "d3"]
    assert chosen(tmp_path, source, "x IS NULL") == ["d2"]
    assert chosen(tmp_path, source, "x < 1000") == ["d4"]
