"""Metadata in SQLite: what is kept, that the bytes are the same each time, and that damage is found."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colindex.storage import metadata
from colindex.storage.checksums import FileSum, file_sum
from colindex.storage.conditions import Condition, folded
from colindex.storage.errors import CorruptIndexError, StorageError
from colindex.storage.metadata import KEPT, METADATA_FILE, MetadataTable, MetadataWriter

Rows = Sequence[Mapping[str, Any]]

scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
keys = st.text(max_size=6) | st.sampled_from(
    ["year", "Year", 'a"b', "a`b", "a]b", "", "select", "rowid", "\0", "True", "é", "É"]
)
rows = st.lists(st.dictionaries(keys, values, max_size=4), min_size=1, max_size=6)


def write(folder: Path, documents: Rows, titles: Sequence[str] | None = None) -> MetadataTable:
    """The table of documents `doc-0`, `doc-1`, ..."""
    return MetadataTable(folder / METADATA_FILE, write_file(folder / METADATA_FILE, documents, titles), len(documents))


def write_file(path: Path, documents: Rows, titles: Sequence[str] | None = None) -> FileSum:
    writer = MetadataWriter()
    for number, row in enumerate(documents):
        writer.append(f"doc-{number}", titles[number] if titles else "", row)
    return writer.finish(path)


def chosen(table: MetadataTable, condition: str, count: int) -> list[int]:
    """The documents that meet a condition."""
    bits = table.choose(Condition.parse(condition), frozenset(map(folded, table.columns())))
    return np.flatnonzero(np.unpackbits(bits, count=count, bitorder="little")).tolist()


def stored(path: Path) -> list[dict[str, Any]]:
    """All rows, as SQLite alone reads them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM _documents")]


# -- what is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        ("", ""),
        ("03", "03"),
        ("a\0b", "a\0b"),
        (3, 3),
        (True, 1),
        (False, 0),
        (-0.5, -0.5),
        (1e300, 1e300),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, 2.0**63),
        (-(2**63) - 1, -(2.0**63)),
        pytest.param(10**400, math.inf, id="more than any float"),
        pytest.param(-(10**400), -math.inf, id="less than any float"),
        ([1, "ü", None], '[1,"ü",null]'),
        ({"a": {"b": [True]}}, '{"a":{"b":[true]}}'),
    ],
)
def test_a_value_is_kept_as_what_it_is(tmp_path: Path, value: object, kept: object) -> None:
    write(tmp_path, [{"key": value}])
    (row,) = stored(tmp_path / METADATA_FILE)
    assert row == {"_document": 0, "id": "doc-0", "title": "", "key": kept}
    assert type(row["key"]) is type(kept)


@settings(max_examples=25)
@given(rows)
def test_every_key_but_a_few_has_a_column(tmp_path_factory: pytest.TempPathFactory, documents: Rows) -> None:
    path = tmp_path_factory.mktemp("metadata") / METADATA_FILE
    sums = {write_file(path, documents) for _ in range(2)}
    assert sums == {file_sum(path)}  # the same bytes each time
    (sum_,) = sums
    table = MetadataTable(path, sum_, len(documents))
    spelled: dict[str, str] = {"id": "id", "title": "title"}
    for key in (key for row in documents for key in row if "\0" not in key and key.lower() not in ("true", "false")):
        spelled.setdefault(folded(key), key)
    assert table.columns() == tuple(spelled.values())
    assert table.ids() == [f"doc-{number}" for number in range(len(documents))]
    for name in table.columns()[2:]:
        expected = [
            number
            for number, row in enumerate(documents)
            if any(value is not None for key, value in row.items() if folded(key) == folded(name))
        ]
        for quoted in ('"{}"'.format(name.replace('"', '""')), "`{}`".format(name.replace("`", "``"))):
            assert chosen(table, f"{quoted} IS NOT NULL", len(documents)) == expected


def test_keys_that_differ_in_case_are_one_column(tmp_path: Path) -> None:
    table = write(tmp_path, [{"Lang": "en"}, {"lang": "de"}, {"LANG": None, "lang": "fr"}, {"lang": 1, "Lang": 2}])
    assert table.columns() == ("id", "title", "Lang")
    assert [row["Lang"] for row in stored(tmp_path / METADATA_FILE)] == ["en", "de", "fr", 1]
    assert chosen(table, "LANG = 'de' OR lang = 'fr'", 4) == [1, 2]


def test_the_documents_own_id_and_title_win(tmp_path: Path) -> None:
    table = write(tmp_path, [{"id": 7, "Title": "x", "_document": 9, "_DOCUMENTS": 1}], ["the title"])
    assert stored(tmp_path / METADATA_FILE) == [{"_document": 0, "id": "doc-0", "title": "the title"}]
    assert chosen(table, "id = 'doc-0' AND title LIKE 'THE%'", 1) == [0]


def test_true_and_false_are_values_and_no_columns(tmp_path: Path) -> None:
    table = write(tmp_path, [{"TRUE": 0, "false": 1, "draft": True}, {"draft": False}])
    assert table.columns() == ("id", "title", "draft")
    assert chosen(table, "draft = true", 2) == [0]


def test_keys_beyond_the_columns_that_sqlite_has_get_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_COLUMN) >= metadata.MAX_COLUMNS + 3
    monkeypatch.setattr(metadata, "MAX_COLUMNS", 30)
    many = {f"key {number}": number for number in range(35)}
    table = write(tmp_path, [many, {"key 0": 5, "one more": 1}])
    assert table.columns() == ("id", "title", *(f"key {number}" for number in range(30)))
    assert chosen(table, '"key 29" = 29 OR "key 0" = 5', 2) == [0, 1]


def test_bytes_depend_on_the_rows_and_nothing_else(tmp_path: Path) -> None:
    documents = [{"number": number, f"key{number % 30}": "x" * (number % 900)} for number in range(500)]
    sums = {write_file(tmp_path / f"{attempt}", documents) for attempt in range(3)}
    sums.add(write_file(tmp_path / "other", [*documents[:-1], {"number": -1}]))
    assert len(sums) == 2


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", "\ud800"])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    writer = MetadataWriter()
    with pytest.raises(StorageError, match="metadata of 'doc-0': expected values that JSON can hold"):
        writer.append("doc-0", "", {"key": value})
    writer.discard()


def test_no_columns_but_id_and_title(tmp_path: Path) -> None:
    table = write(tmp_path, [{}] * 3, ["a", "b", "a"])
    assert table.columns() == ("id", "title")
    assert chosen(table, "title = 'a'", 3) == [0, 2]


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_bits_are_packed_and_none_is_set_beyond_the_last_document(tmp_path: Path) -> None:
    table = write(tmp_path, [{"n": number} for number in range(11)])
    bits = table.choose(Condition.parse("n % 2 = 0 OR n = 9"), frozenset({"n"}))
    assert bits.tolist() == [0b01010101, 0b00000111]
    assert not bits.flags.writeable


def test_the_last_conditions_are_kept_and_counted(tmp_path: Path) -> None:
    table = write(tmp_path, [{"n": number} for number in range(20)])
    first = Condition.parse("n = 0")
    names = frozenset({"n"})
    bits = table.choose(first, names)
    assert table.choose(Condition.parse("n = 0"), names) is bits
    assert table.resident_bytes == KEPT * bits.nbytes
    for number in range(1, KEPT):
        table.choose(Condition.parse(f"n = {number}"), names)
    assert table.choose(first, names) is bits
    for number in range(KEPT):
        table.choose(Condition.parse(f"n < {number}"), names)
    again = table.choose(first, names)
    assert again is not bits
    assert again.tolist() == bits.tolist()


@pytest.mark.parametrize(
    "clock", ["date('now')", "strftime('%Y')", "CURRENT_DATE", "`datetime` ( )", '"date"(/* now */)']
)
def test_what_asks_for_the_time_is_never_kept(tmp_path: Path, clock: str) -> None:
    table = write(tmp_path, [{"day": "2020-01-01"}, {"day": "9999-01-01"}])
    condition = Condition.parse(f"day < {clock}")
    found = [table.choose(condition, frozenset({"day"})) for _ in range(2)]
    assert found[0] is not found[1]
    assert [bits.tolist() for bits in found] == [[1], [1]]


def test_nothing_stays_open(tmp_path: Path) -> None:
    table = write(tmp_path, [{"n": 1}])
    assert chosen(table, "n = 1", 1) == [0]
    here = str(tmp_path)
    assert not [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and here in str(link.resolve())]
    assert [path.name for path in tmp_path.iterdir()] == [METADATA_FILE]


@pytest.mark.parametrize("folder", ["a b", "50%", "ü#?x=1", "%41"])
def test_any_path_opens(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    table = write(tmp_path / folder, [{"n": 1}, {"n": 2}])
    assert chosen(table, "n = 2", 2) == [1]


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_before_sqlite_sees_it(tmp_path: Path) -> None:
    table = write(tmp_path, [{"n": number, "text": "x" * 50} for number in range(100)])
    condition, names = Condition.parse("n >= 50"), frozenset({"n"})
    content = table.path.read_bytes()
    for position in range(0, len(content), 397):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        table.path.write_bytes(damaged)
        for use in (lambda: table.choose(condition, names), table.ids, table.columns):
            with pytest.raises(CorruptIndexError, match=METADATA_FILE):
                use()
    table.path.write_bytes(content)
    assert chosen(table, "n >= 98", 100) == [98, 99]


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    table = write(tmp_path, [{"n": 1}])
    table.path.unlink()
    with pytest.raises(CorruptIndexError, match="No such file"):
        table.columns()


@pytest.mark.parametrize("content", [b"no database at all" * 300, b"SQLite format 3\0" + bytes(4080), b""])
def test_a_file_that_never_was_a_database_is_damage_too(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / METADATA_FILE
    path.write_bytes(content)
    table = MetadataTable(path, file_sum(path), 1)
    with pytest.raises(CorruptIndexError, match=METADATA_FILE):
        table.ids()
