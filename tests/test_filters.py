"""Filters, against plain Python over the same metadata."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colindex import BuildParams, Document, Index, SearchParams
from colindex.errors import CorruptIndexError, FilterError
from colindex.filters import columns, evaluate
from colindex.storage import metadata
from colindex.storage.metadata import METADATA_FILE, MetadataTable, MetadataWriter
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import SegmentReader
from tests.storage.samples import CENTROIDS, RECORD_BYTES, batch
from tests.test_golden import GOLDEN
from tests.words import WordEncoder, batches, documents

Rows = Sequence[Mapping[str, Any]]


def segment(path: Path, rows: Rows, number: int = 1) -> SegmentReader:
    """A segment of documents with these metadata, `doc-<number>0`, `doc-<number>1`, ... with titles `t0`, `t1`, `t0`, ..."""
    part, name = batch([0] * len(rows)), f"{number:06d}"
    titles, ids = (
        [f"t{place % 2}" for place in range(len(rows))],
        [f"doc-{number}{place}" for place in range(len(rows))],
    )
    with SegmentWriter(path, name, record_bytes=RECORD_BYTES, n_centroids=CENTROIDS) as writer:
        args = (part.records, part.centroids, part.offsets, ids, part.documents)
        writer.append(*args, titles=titles, metadata=rows)
        return SegmentReader(path, writer.seal())


def alone(path: Path, rows: Rows) -> SegmentReader:
    """What a filter sees of such a segment, without the rest of it, which takes long to write."""
    writer = MetadataWriter()
    for place, row in enumerate(rows):
        writer.append(f"doc-{place}", f"t{place % 2}", row)
    table = MetadataTable(path / METADATA_FILE, writer.finish(path / METADATA_FILE), len(rows))
    return cast(SegmentReader, SimpleNamespace(path=path, metadata=table, info=SimpleNamespace(documents=len(rows))))


def chosen(segments: Sequence[SegmentReader], where: str) -> list[list[int]]:
    sizes = [each.info.documents for each in segments]
    bits = evaluate(segments, where)
    assert [len(each) for each in bits] == [-(-size // 8) for size in sizes]
    marks = [np.unpackbits(each, bitorder="little") for each in bits]
    assert not any(each[size:].any() for each, size in zip(marks, sizes, strict=True))
    return [np.flatnonzero(each).tolist() for each in marks]


# -- against Python ----------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    """A condition, the columns that it mentions, and what it means."""

    where: str
    columns: set[str]
    means: Callable[[Mapping[str, Any]], bool]


def order(value: Any) -> tuple[int, Any]:
    """Numbers stand before texts."""
    return (1, value) if isinstance(value, str) else (0, value)


def tags_of(row: Mapping[str, Any]) -> list[Any]:
    return row.get("tags") or []


QUESTIONS = [
    Question("lang = 'en'", {"lang"}, lambda row: row.get("lang") == "en"),
    Question("LANG <> 'en'", {"lang"}, lambda row: row.get("lang") not in (None, "en")),
    Question("NOT lang = 'en'", {"lang"}, lambda row: row.get("lang") not in (None, "en")),
    Question("lang IS NULL", {"lang"}, lambda row: row.get("lang") is None),
    Question("lang IN ('en', 'dé')", {"lang"}, lambda row: row.get("lang") in ("en", "dé")),
    Question("coalesce(lang, 'en') = 'en'", {"lang"}, lambda row: row.get("lang") in (None, "en")),
    Question("lang LIKE 'D%'", {"lang"}, lambda row: (row.get("lang") or "")[:1] == "d"),
    Question("year >= 2000", {"year"}, lambda row: row.get("year") is not None and order(row["year"]) >= (0, 2000)),
    Question("year = '2000'", {"year"}, lambda row: row.get("year") == "2000"),
    Question("year + 0 = 2000", {"year"}, lambda row: row.get("year") in (2000, "2000")),
    Question(
        "year >= 2000 AND lang = 'en'",
        {"year", "lang"},
        lambda row: row.get("year") is not None and order(row["year"]) >= (0, 2000) and row.get("lang") == "en",
    ),
    Question(
        "typeof(year) = 'text' OR [größe \"x\"] < 1.5",
        {"year", 'größe "x"'},
        lambda row: isinstance(row.get("year"), str) or (row.get('größe "x"') is not None and row['größe "x"'] < 1.5),
    ),
    Question(
        '"größe ""x""" BETWEEN -1 AND 1',
        {'größe "x"'},
        lambda row: row.get('größe "x"') is not None and abs(row['größe "x"']) <= 1,
    ),
    Question("draft", {"draft"}, lambda row: row.get("draft") is True),
    Question("draft = FALSE", {"draft"}, lambda row: row.get("draft") is False),
    Question("draft IS NOT TRUE", {"draft"}, lambda row: row.get("draft") is not True),
    Question("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = 'x')", {"tags"}, lambda row: "x" in tags_of(row)),
    Question("json_array_length(tags) > 1", {"tags"}, lambda row: len(tags_of(row)) > 1),
    Question("author ->> '$.name' = 'Ann'", {"author"}, lambda row: (row.get("author") or {}).get("name") == "Ann"),
    Question(
        "json_extract(author, '$.age') > 30", {"author"}, lambda row: (row.get("author") or {}).get("age", 0) > 30
    ),
    Question("title = 't1'", set(), lambda row: row["place"] % 2 == 1),
    Question("id LIKE '%2'", set(), lambda row: row["place"] == 2),
    Question("1 = 1", set(), lambda row: True),
    Question("NULL", set(), lambda row: False),
]

row_values = st.fixed_dictionaries(
    {},
    optional={
        "lang": st.sampled_from([None, "en", "de", "dé", ""]),
        "year": st.none() | st.sampled_from([1999, 2000, 2000.5, "1999", "2000", "later"]),
        'größe "x"': st.none() | st.floats(-3, 3),
        "draft": st.none() | st.booleans(),
        "tags": st.none() | st.lists(st.sampled_from(["x", "y", 1])),
        "author": st.none() | st.fixed_dictionaries({}, optional={"name": st.just("Ann"), "age": st.integers(20, 40)}),
    },
)


@settings(max_examples=10)
@given(st.lists(st.lists(row_values, min_size=1, max_size=9), min_size=1, max_size=3))
def test_a_filter_chooses_what_python_chooses(tmp_path_factory: pytest.TempPathFactory, parts: Sequence[Rows]) -> None:
    segments = [alone(tmp_path_factory.mktemp("filters"), rows) for rows in parts]
    there = {key for rows in parts for row in rows for key in row}
    assert set(columns(each.metadata for each in segments)) == there | {"id", "title"}
    for question in QUESTIONS:
        if question.columns <= there:
            expected = [
                [place for place, row in enumerate(rows) if question.means({**row, "place": place})] for rows in parts
            ]
            assert chosen(segments, question.where) == expected, question.where
        else:
            with pytest.raises(FilterError, match="no such column"):
                evaluate(segments, question.where)


# -- columns of several segments ---------------------------------------------------------------------------------------


def test_a_column_that_a_segment_has_not_is_null_there(tmp_path: Path) -> None:
    segments = [segment(tmp_path, [{"a": 1}, {"a": 2}], 1), segment(tmp_path, [{"B": 1}], 2)]
    assert columns(each.metadata for each in segments) == ("id", "title", "a", "B")
    assert chosen(segments, "a = 1 OR b = 1") == [[0], [0]]
    assert chosen(segments, "a IS NULL") == [[], [0]]
    assert chosen(segments, '"A" IS NOT "b"') == [[0, 1], [0]]
    assert chosen(segments[:1], "a > 1") == [[1]]
    with pytest.raises(FilterError, match="no such column: b"):
        evaluate(segments[:1], "a = 1 OR b = 1")
    assert chosen(segments, "a = 1 OR b = 1") == [[0], [0]]


def test_a_kept_answer_is_not_given_for_a_column_that_is_gone(tmp_path: Path) -> None:
    segments = [segment(tmp_path, [{"a": 1}], 1), segment(tmp_path, [{"b": 1}], 2)]
    assert chosen(segments, "b = 1") == [[], [0]]
    with pytest.raises(FilterError, match="no such column: b"):
        evaluate(segments[:1], "b = 1")


def test_without_segments_nothing_is_chosen() -> None:
    assert evaluate([], "year > 1") == ()


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def one(tmp_path: Path) -> list[SegmentReader]:
    return [segment(tmp_path, [{"year": 2020, "tags": "no JSON"}, {"year": 1999}])]


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("yeer > 2000", "no such column: yeer"),
        ('"yeer" > 2000', "no such column: yeer"),
        ('lang = "en"', "no such column: "),
        ("year = 2020 OR \"en\" = 'en'", "no such column: en"),
        ("rowid = 1", "no such column: rowid"),
        ("_document = 1", "`_document` is a name of colindex's own"),
        ("year >", "syntax error"),
        ("year = = 1", "syntax error"),
        ("year 2020", "syntax error"),
        ("group = 1", "syntax error"),
        ("", "it is empty"),
        ("year, tags", "row value"),
        ("count(*) > 1", "misuse of aggregate"),
        ("regexp('a', tags)", "no such function: regexp"),
        ("tags REGEXP 'a'", "no such function: REGEXP"),
        ("tags MATCH 'a'", "not authorized to use function: MATCH"),
        ("json_extract(tags, '$.a') = 1", "malformed JSON"),
        ("random() > 0", "not authorized to use function: random"),
        ("randomblob(9) > 0", "not authorized to use function: randomblob"),
        ("zeroblob(2000000000) > 0", "not authorized to use function: zeroblob"),
        ("sqlite_version() > 0", "not authorized to use function: sqlite_version"),
        ("last_insert_rowid() > 0", "not authorized to use function: last_insert_rowid"),
        ("load_extension('/tmp/x.so')", "not authorized to use function: load_extension"),
        ("fts3_tokenizer('simple') IS NULL", "not authorized to use function: fts3_tokenizer"),
        ("readfile('/etc/passwd') IS NULL", "no such function: readfile"),
        ("year IN (SELECT rootpage FROM sqlite_master)", "prohibited|not authorized"),
        ("(SELECT count(*) FROM sqlite_master) > 0", "prohibited|not authorized"),
        ("EXISTS (SELECT 1 FROM pragma_table_info('x'))", "prohibited|not authorized"),
        ("EXISTS (SELECT 1 FROM dbstat)", "no such table|vtable constructor failed"),
        ("(SELECT max(year) FROM _documents) = year", "`_documents` is a name of colindex's own"),
        ("(WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n) SELECT max(x) FROM n)", "not authorized"),
        ("1); ATTACH '/tmp/x' AS x; --", "without `;`|no `\\(` before"),
        ("1) UNION SELECT 1 --", "no `\\(` before"),
        ("year = ?", "no parameters"),
        ("PRAGMA user_version", "syntax error"),
        ("length(replace(printf('%1000000d', 1), ' ', 'xxxxxxxxxx'))", "too big"),
    ],
)
def test_a_bad_condition_is_an_error_that_quotes_it(one: list[SegmentReader], where: str, reason: str) -> None:
    for _ in range(2):  # errors are not kept as answers
        with pytest.raises(FilterError, match=reason) as raised:
            evaluate(one, where)
        assert repr(where) in str(raised.value)
        assert "Columns: id, title, year, tags;" in str(raised.value)
    assert chosen(one, "year = 2020") == [[0]]


@pytest.mark.parametrize("where", [5, b"year > 1", ["year > 1"]])
def test_a_condition_is_a_text(one: list[SegmentReader], where: Any) -> None:
    with pytest.raises(FilterError, match=f"expected an SQL expression as str, got {type(where).__name__}"):
        evaluate(one, where)


def test_messages_stay_short(tmp_path: Path) -> None:
    many = segment(tmp_path, [{f"key{number}": 1 for number in range(40)}])
    with pytest.raises(FilterError, match=r"key17 and 22 more;") as raised:
        evaluate([many], "oops = 1 AND " + "x" * 5000)
    assert len(str(raised.value)) < 1000


SLOW = "(SELECT sum(a.value * b.value * c.value) FROM json_each(many) a, json_each(many) b, json_each(many) c) > 0"


def test_a_condition_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "SECONDS", 0.1)
    slow = segment(tmp_path, [{"many": list(range(2000))}])
    start = time.perf_counter()
    with pytest.raises(FilterError, match=r"it takes more than 0\.1 s in one segment"):
        evaluate([slow], SLOW)
    assert time.perf_counter() - start < 5


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is heard: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_a_condition(tmp_path: Path) -> None:
    import _thread

    slow = segment(tmp_path, [{"many": list(range(2000))}])
    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        evaluate([slow], SLOW)
    timer.join()


def test_damage_is_an_error_with_a_path(one: list[SegmentReader]) -> None:
    file = one[0].path / METADATA_FILE
    content = file.read_bytes()
    file.write_bytes(content.replace(b"no JSON", b"no jSON"))
    with pytest.raises(CorruptIndexError, match=METADATA_FILE):
        evaluate(one, "year = 2020")
    file.write_bytes(content)
    assert chosen(one, "year = 2020") == [[0]]


def test_many_threads_get_the_answers_of_one(tmp_path: Path) -> None:
    rows = [{"n": number, "even": number % 2 == 0} for number in range(2000)]
    segments = [segment(tmp_path, rows, number) for number in (1, 2)]
    wheres = [f"n < {limit} AND even" for limit in range(0, 60, 2)] + ["oops = 1"]

    def answer(where: str) -> object:
        try:
            return chosen(segments, where)
        except FilterError:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(answer, wheres * 4))
    assert found == ([[list(range(0, limit, 2))] * 2 for limit in range(0, 60, 2)] + ["refused"]) * 4


# -- in an index -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
def test_a_filtered_search_gives_the_best_of_what_may_be_returned(tmp_path: Path, exact: bool) -> None:
    path = tmp_path / "index"
    Index.build(path, documents(120), WordEncoder(), BuildParams(segment_tokens=200))
    with Index.open(path, encoder=WordEncoder()) as index:
        params = SearchParams(exact=exact, nprobe=10_000, candidates=10_000)
        index.delete(["doc-8"])
        everything = index.search("amber cedar", k=120, params=params)
        for where, allowed in [
            ("number % 2 = 0", range(0, 120, 2)),
            ("number = 7", [7]),
            ("title = 'title3' AND number < 50", range(3, 50, 7)),
            ("number > 1000", []),
        ]:
            ids = {f"doc-{number}" for number in allowed}
            expected = [(hit.id, hit.score) for hit in everything if hit.id in ids][:10]
            found = [(hit.id, hit.score) for hit in index.search("amber cedar", k=10, params=params, where=where)]
            assert found == expected
        with pytest.raises(FilterError, match="no such column: nummer"):
            index.search("amber", where="nummer = 1")


def test_an_index_of_vectors_is_filtered_by_id(tmp_path: Path) -> None:
    path = tmp_path / "index"
    Index.build_from_vectors(path, batches(30, tokens=5), BuildParams())
    with Index.open(path) as index:
        hits = index.search_vectors(np.eye(16, dtype=np.float32)[:2], k=30, where="id IN ('v3', 'v17')")
        assert {hit.id for hit in hits} == {"v3", "v17"}


def test_what_is_added_later_may_bring_columns(tmp_path: Path) -> None:
    path = tmp_path / "index"
    Index.build(path, documents(20), WordEncoder())
    with Index.open(path, encoder=WordEncoder()) as index:
        index.add(
            [Document("new", "amber", metadata={"Lang": "en"}), Document("old", "amber", metadata={"lang": None})]
        )
        assert [hit.id for hit in index.search("amber", where="lang = 'en'")] == ["new"]
        assert len(index.search("amber", k=50, where="lang IS NULL AND number < 50")) == 20


def test_an_index_of_format_1_says_how_to_get_metadata(tmp_path: Path) -> None:
    path = tmp_path / "text.colindex"
    shutil.copytree(GOLDEN / "format-v1" / "text.colindex", path)
    with Index.open(path, encoder=WordEncoder()) as index:
        assert len(index.search("amber cedar", ids=["doc-7"])) == 1
        with pytest.raises(FilterError, match="run `colindex compact --full` to give it one"):
            index.search("amber cedar", where="number > 3")
        index.add([Document("new", "amber")])
        with pytest.raises(FilterError, match=r"000001\.zarr: .* older colindex"):
            index.search("amber cedar", where="number > 3")


def test_segments_without_metadata_are_read_from_old_manifests(tmp_path: Path) -> None:
    info = segment(tmp_path, [{"a": 1}]).info
    value = json.loads(json.dumps(info.to_json()))
    del value["bytes_by_part"]["metadata"], value["files"][METADATA_FILE]
    old = SegmentReader(tmp_path, type(info).from_json(value))
    assert (old.metadata, old.info.bytes_by_part["metadata"], old.resident_bytes["filters"]) == (None, 0, 0)
    with pytest.raises(FilterError, match=r"000001\.zarr: .* older colindex"):
        evaluate([old], "a = 1")
