"""Corpus files: what was written comes back, and what is malformed is named by file and line."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from colindex import Document
from colindex.corpus import read_corpus
from colindex.errors import ColindexError, CorpusError, MissingDependencyError
from colindex.textfiles import suffixes

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
ID = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FIELD = TEXT.filter(lambda name: name not in {"_id", "id", "text", "title", "metadata"})
DOCUMENT = st.builds(Document, id=ID, text=TEXT, title=TEXT, metadata=st.dictionaries(FIELD, JSON, max_size=3))

GOOD = '{"_id": "a", "text": "alpha"}\n'


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _jsonl(documents: list[Document]) -> str:
    rows = [{"_id": d.id, "title": d.title, "text": d.text, **d.metadata} for d in documents]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _error(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        list(read_corpus([path]))
    return str(caught.value)


# ---- what was written comes back


@given(st.lists(DOCUMENT, min_size=1, max_size=4))
def test_jsonl_round_trip(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> None:
    path = _write(tmp_path_factory.mktemp("c") / "c.jsonl", _jsonl(documents))
    assert list(read_corpus([path])) == documents


@given(st.lists(DOCUMENT, min_size=1, max_size=3))
def test_jsonl_round_trip_with_escapes(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> None:
    rows = [{"_id": d.id, "title": d.title, "text": d.text, **d.metadata} for d in documents]
    path = _write(tmp_path_factory.mktemp("c") / "c.jsonl", "\n".join(json.dumps(row) for row in rows))
    assert list(read_corpus([path])) == documents


@given(st.lists(st.tuples(ID, TEXT, TEXT, TEXT), min_size=1, max_size=4))
def test_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str]]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "title", "text", "lang"), *rows])
    path = _write(tmp_path_factory.mktemp("c") / "c.csv", buffer.getvalue())
    assert list(read_corpus([path])) == [Document(i, text, title, {"lang": lang}) for i, title, text, lang in rows]


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), max_size=20)


@given(st.lists(st.tuples(CELL.filter(bool), CELL, CELL), min_size=1, max_size=4))
def test_tsv_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]) -> None:
    lines = ["_id\ttitle\ttext", *("\t".join(row) for row in rows)]
    path = _write(tmp_path_factory.mktemp("c") / "c.tsv", "\n".join(lines))
    kept = [row for row in rows if "".join(row).strip()]
    assert list(read_corpus([path])) == [Document(i, text, title) for i, title, text in kept]


@given(st.lists(st.tuples(ID, TEXT, TEXT, st.none() | st.integers(0, 99)), min_size=1, max_size=4))
def test_parquet_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, int | None]]
) -> None:
    names = ("id", "title", "text", "year")
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})
    path = tmp_path_factory.mktemp("c") / "c.parquet"
    pq.write_table(table, path)
    assert list(read_corpus([path])) == [Document(i, text, title, {"year": year}) for i, title, text, year in rows]


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", _gzip), (".zst", _zstd)])
@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.tsv", "c.parquet", "c.txt"])
def test_every_format_may_be_compressed(
    tmp_path: Path, name: str, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    plain = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"_id": ["a"], "text": ["alpha"]}), plain)
    else:
        contents = {
            "c.jsonl": GOOD,
            "c.csv": "id,text\r\na,alpha\r\n",
            "c.tsv": "id\ttext\na\talpha\n",
            "c.txt": "alpha",
        }
        _write(plain, contents[name])
    packed = _write(tmp_path / (name + suffix), compress(plain.read_bytes()))
    (document,) = read_corpus([packed])
    assert document.text == "alpha"
    assert document.id == (str(packed) if name == "c.txt" else "a")


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", _gzip), (".zst", _zstd)])
def test_compressed_parts_may_be_joined(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    many = [Document(str(number), "text " * 50) for number in range(4_000)]
    parts = [compress(_jsonl(many[:1_500]).encode()), compress(_jsonl(many[1_500:]).encode())]
    path = _write(tmp_path / ("c.jsonl" + suffix), b"".join(parts))
    assert list(read_corpus([path])) == many


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", _gzip), (".zst", _zstd)])
def test_compressed_files_larger_than_any_buffer(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    rng = random.Random(7)
    many = [Document(str(number), rng.randbytes(1_000).hex()) for number in range(600)]
    parts = [compress(_jsonl(many[:100]).encode()), compress(_jsonl(many[100:]).encode())]
    assert sum(map(len, parts)) > 4 * 2**17
    assert list(read_corpus([_write(tmp_path / ("c.jsonl" + suffix), b"".join(parts))])) == many


def test_several_files_come_in_the_order_given(tmp_path: Path) -> None:
    first = _write(tmp_path / "z.jsonl", GOOD)
    second = _write(tmp_path / "a.tsv", "b\tbeta\n")
    assert [document.id for document in read_corpus([first, second])] == ["a", "b"]


def test_standard_input_is_jsonl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert list(read_corpus(["-"])) == [Document("a", "alpha")]


def test_a_folder_gives_its_text_files(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".hidden").mkdir(parents=True)
    for name in ("b.txt", "sub/a.md", "sub/.hidden/c.md", "picture.png", ".d.txt"):
        _write(tmp_path / name, f"text of {name}\n")
    found = list(read_corpus([tmp_path]))
    assert found == [Document("b.txt", "text of b.txt"), Document("sub/a.md", "text of sub/a.md")]


def test_a_file_is_streamed(tmp_path: Path) -> None:
    path = _write(tmp_path / "c.jsonl", GOOD + "not json\n")
    reader = read_corpus([path])
    assert next(reader).id == "a"
    with pytest.raises(CorpusError):
        next(reader)


# ---- fields


def _one(tmp_path: Path, record: dict[str, Any]) -> Document:
    (document,) = read_corpus([_write(tmp_path / "c.jsonl", json.dumps(record))])
    return document


def test_underscore_id_wins_and_everything_else_is_metadata(tmp_path: Path) -> None:
    document = _one(tmp_path, {"_id": "a", "id": "b", "text": "t", "url": "u", "tags": [1]})
    assert (document.id, document.title) == ("a", "")
    assert document.metadata == {"id": "b", "url": "u", "tags": [1]}


def test_whole_numbers_are_ids_and_null_is_no_title(tmp_path: Path) -> None:
    assert _one(tmp_path, {"_id": None, "id": 7, "text": "t", "title": None}) == Document("7", "t")


def test_a_metadata_object_is_merged(tmp_path: Path) -> None:
    assert _one(tmp_path, {"_id": "a", "text": "t", "metadata": {"x": 1, "y": 1}, "y": 2}).metadata == {"x": 1, "y": 2}
    assert _one(tmp_path, {"_id": "a", "text": "t", "metadata": "plain"}).metadata == {"metadata": "plain"}


def test_a_byte_order_mark_and_blank_lines_are_no_content(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert list(read_corpus([_write(tmp_path / "c.jsonl", mark + b"\n" + GOOD.encode() + b"  \n")]))
    assert list(read_corpus([_write(tmp_path / "c.csv", mark + b"id,text\n\na,alpha\n\n")])) == [Document("a", "alpha")]


def test_a_csv_field_may_be_long_and_hold_line_feeds(tmp_path: Path) -> None:
    long = 'says "yes"\n' * 50_000
    quoted = long.replace('"', '""')
    path = _write(tmp_path / "c.csv", f'id,text\n1,"{quoted}"\n2,short\n')
    assert [document.text for document in read_corpus([path])] == [long, "short"]


def test_a_tsv_without_names_has_two_columns(tmp_path: Path) -> None:
    path = _write(tmp_path / "c.tsv", '0\tsays "yes"\r\n1\tno\r\n')
    assert list(read_corpus([path])) == [Document("0", 'says "yes"'), Document("1", "no")]


def test_parquet_values_become_json(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "_id": [1],
        "text": ["t"],
        "day": [datetime.date(2026, 1, 2)],
        "price": [decimal.Decimal("1.50")],
        "missing": [float("nan")],
        "nested": [{"when": [datetime.datetime(2026, 1, 2, 3)]}],
        "sure": [True],
    }
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    (document,) = read_corpus([tmp_path / "c.parquet"])
    assert document.id == "1"
    assert document.metadata == {
        "day": "2026-01-02",
        "price": "1.50",
        "missing": None,
        "nested": {"when": ["2026-01-02T03:00:00"]},
        "sure": True,
    }


# ---- what is malformed


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"_id": "b", "text": oops}', "line 2, column 22"),
        ('{"_id": "b", "text": "cut', "line 2, column 22"),
        ("[1, 2]", "line 2, column 1: expected a JSON object, got an array"),
        ('{"text": "t"}', "line 2: expected a field `_id` or `id`, found none"),
        ('{"_id": "b"}', "line 2: expected a field `text`, found none"),
        ('{"_id": "b", "text": null}', "line 2: expected a field `text`, found none"),
        ('{"_id": "b", "text": 3}', "line 2: expected `text` to be text, got a number"),
        ('{"_id": "b", "text": "t", "title": ["x"]}', "line 2: expected `title` to be text, got an array"),
        ('{"_id": true, "text": "t"}', "line 2: expected the id to be text or a whole number, got true or false"),
        ('{"_id": 1.5, "text": "t"}', "line 2: expected the id to be text or a whole number, got a fraction"),
        ('{"_id": "", "text": "t"}', "line 2: expected an id of 1 to 511 bytes, got 0"),
        ('{"_id": "' + "é" * 256 + '", "text": "t"}', "line 2: expected an id of 1 to 511 bytes, got 512"),
        ('{"_id": "b", "text": "t", "x": NaN}', "line 2: expected JSON that can be read, got NaN"),
        ('{"_id": "b", "text": "\\ud800"}', "line 2: expected valid Unicode"),
        ('{"_id": "b", "text": "t", "x": ["\\udfff"]}', "line 2: expected valid Unicode"),
        ("[" * 100_000, "line 2: expected JSON that can be read"),
        ('{"_id": "b", "text": "t", "x": ' + "9" * 5_000 + "}", "line 2: expected JSON that can be read"),
        (b'{"_id": "b", "text": "caf\xe9"}', "line 2, byte 26: expected UTF-8, got byte 0xe9"),
    ],
)
def test_a_malformed_json_line_is_named_and_can_be_skipped(tmp_path: Path, line: str | bytes, expected: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    path = _write(tmp_path / "c.jsonl", GOOD.encode() + raw + b"\n" + GOOD.replace('"a"', '"z"').encode())
    message = _error(path)
    assert message.startswith(f"{path}, {expected}")

    reader = read_corpus([path], skip_invalid=True)
    assert [document.id for document in reader] == ["a", "z"]
    assert (reader.skipped, reader.documents, reader.messages) == (1, 2, [message])


@pytest.mark.parametrize(
    ("name", "content", "expected", "ids"),
    [
        ("c.csv", "id,text\na,x\nb\nc,y\n", "line 3: expected 2 columns (id, text), got 1", ["a", "c"]),
        ("c.csv", 'id,text\na,x\nb,"y"z\nc,y\n', "line 3: expected a CSV row", ["a", "c"]),
        ("c.csv", 'id,text\na,x\nb,"never closed\nc,y\n', "line 4: expected a CSV row", ["a"]),
        ("c.csv", "id,text\n,x\nc,y\n", "line 2: expected an id of 1 to 511 bytes, got 0", ["c"]),
        ("c.tsv", "id\ttext\na\tx\nb\ty\tz\nc\ty\n", "line 3: expected 2 columns (id, text), got 3", ["a", "c"]),
        ("c.tsv", "a\tx\nb\nc\ty\n", "line 2: expected 2 columns", ["a", "c"]),
    ],
)
def test_a_malformed_row_is_named_and_can_be_skipped(
    tmp_path: Path, name: str, content: str, expected: str, ids: list[str]
) -> None:
    path = _write(tmp_path / name, content)
    assert _error(path).startswith(f"{path}, {expected}")
    reader = read_corpus([path], skip_invalid=True)
    assert [document.id for document in reader] == ids
    assert reader.skipped == 1


def test_a_malformed_parquet_row_is_named_and_can_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"_id": ["a", None, "c"], "text": ["x", "y", "z"], "raw": [None, None, b"\0"]}), path)
    assert _error(path).startswith(f"{path}, row 2: expected a field `_id` or `id`")
    reader = read_corpus([path], skip_invalid=True)
    assert [document.id for document in reader] == ["a"]
    assert "expected `raw` to be something that JSON can hold, got bytes" in reader.messages[1]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("c.csv", "name,text\na,x\n", "line 1: expected a row of column names with `_id` or `id`, and `text`"),
        ("c.csv", "id,text,text\na,x,y\n", "line 1: expected a row of column names"),
        ("c.csv", '"id,text\n', "line 1: expected a row of column names, got one that is malformed"),
        ("c.tsv", "a\tb\tc\n", "line 1: expected column names"),
        ("c.tsv", "only one column\n", "line 1: expected column names"),
    ],
)
def test_column_names_that_do_not_serve_are_no_matter_of_skipping(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    path = _write(tmp_path / name, content)
    assert _error(path).startswith(f"{path}, {expected}")
    with pytest.raises(CorpusError):
        list(read_corpus([path], skip_invalid=True))


def test_parquet_without_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "body": ["x"]}), tmp_path / "c.parquet")
    assert "expected columns `_id` or `id`, and `text`, each once, got 'id', 'body'" in _error(tmp_path / "c.parquet")


@pytest.mark.parametrize("name", ["c.parquet", "c.jsonl.gz", "c.jsonl.zst", "c.parquet.gz"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / name, "no such format, but long enough to be looked at " * 10)
    assert str(path) in _error(path)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", _gzip), (".zst", _zstd)])
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_compressed_file_that_was_cut_short(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes], kept: float
) -> None:
    lines = "".join(json.dumps({"_id": str(n), "text": f"text {n * 7919}"}) + "\n" for n in range(3_000))
    whole = compress(lines.encode())
    path = _write(tmp_path / ("c.jsonl" + suffix), whole[: int(len(whole) * kept)])
    assert "the file is damaged or cut short" in _error(path)
    with pytest.raises(CorpusError):  # nothing of the rest can be trusted, so it cannot be skipped either
        list(read_corpus([path], skip_invalid=True))


def test_a_truncated_parquet_inside_gzip(tmp_path: Path) -> None:
    pq.write_table(pa.table({"_id": ["a"], "text": ["x"]}), tmp_path / "c.parquet")
    packed = gzip.compress((tmp_path / "c.parquet").read_bytes())
    path = _write(tmp_path / "d.parquet.gz", packed[: len(packed) // 2])
    assert str(path) in _error(path)


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.tsv", "c.jsonl.gz"])
def test_an_empty_corpus(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / name, gzip.compress(b"") if name.endswith(".gz") else b"")
    assert _error(path) == f"{path}: expected at least one document, found none."


def test_a_corpus_without_one_sound_record(tmp_path: Path) -> None:
    path = _write(tmp_path / "c.jsonl", "x\n" * 8)
    reader = read_corpus([path], skip_invalid=True)
    with pytest.raises(CorpusError, match="found only 8 invalid records"):
        next(reader)
    assert len(reader.messages) == 5


def test_a_folder_without_text_files(tmp_path: Path) -> None:
    assert "expected at least one document" in _error(tmp_path)


def test_a_text_file_that_is_not_utf8_can_be_skipped(tmp_path: Path) -> None:
    _write(tmp_path / "a.txt", b"\xff\xfe")
    _write(tmp_path / "b.txt", "beta")
    reader = read_corpus([tmp_path], skip_invalid=True)
    assert [document.id for document in reader] == ["b.txt"]
    assert "a.txt, line 1, byte 1: expected UTF-8" in reader.messages[0]


def test_paths_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    good = _write(tmp_path / "c.jsonl", GOOD)
    with pytest.raises(CorpusError, match=r"gone.jsonl: expected a file, found nothing"):
        read_corpus([good, tmp_path / "gone.jsonl"])
    with pytest.raises(CorpusError, match=r"expected .jsonl, .tsv.* got .docx.gz"):
        read_corpus([good, _write(tmp_path / "c.docx.gz", "x")])
    with pytest.raises(CorpusError, match="got no suffix"):
        read_corpus([_write(tmp_path / "corpus", "x")])


def test_no_paths_are_no_corpus() -> None:
    with pytest.raises(CorpusError, match="no corpus given"):
        next(read_corpus([]))


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "c.parquet"), ("zstandard", "c.jsonl.zst")])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install .*{package}"):
        next(read_corpus([_write(tmp_path / name, "x")]))


@given(
    st.binary(max_size=200), st.sampled_from(["c.jsonl", "c.csv", "c.tsv", "c.jsonl.gz", "c.jsonl.zst", "c.parquet"])
)
def test_any_bytes_give_documents_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = _write(tmp_path_factory.mktemp("c") / name, content)
    for skip_invalid in (False, True):
        outcome = _outcome(path, skip_invalid)
        assert str(path) in outcome if isinstance(outcome, str) else outcome


def _outcome(path: Path, skip_invalid: bool) -> list[Document] | str:
    """The documents, or the message of an error that colindex raises on purpose."""
    try:
        return list(read_corpus([path], skip_invalid=skip_invalid))
    except ColindexError as error:
        return str(error)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.JSONL", (".jsonl", "")),
        ("a.tsv.GZ", (".tsv", ".gz")),
        (".gz", ("", "")),
        ("a.gz", ("", ".gz")),
        ("a", ("", "")),
    ],
)
def test_suffixes(name: str, expected: tuple[str, str]) -> None:
    assert suffixes(name) == expected
