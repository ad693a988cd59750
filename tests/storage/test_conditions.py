"""Conditions: what is refused, and that what is let through means to SQLite what it meant to us."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.storage.conditions import MAX_CHARACTERS, Condition, ConditionError, folded


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "sql", "names"),
    [
        ("year >= 2020 AND lang = 'en'", "year >= 2020 AND lang = 'en'", {"year", "and", "lang"}),
        ('"a""b" = 1', '`a"b` = 1', {'a"b'}),
        ('"a`b" = [c "d"]', '`a``b` = `c "d"`', {"a`b", 'c "d"'}),
        ("`a``b` = ''''", "`a``b` = ''''", {"a`b"}),
        ("a -- ' ) ;\n= 1", "a   = 1", {"a"}),
        ("a /* ' ) ; */ = 1", "a   = 1", {"a"}),
        ("'-- /* \" ; ) ? '", "'-- /* \" ; ) ? '", set()),
        ("x'00' = X", "x'00' = X", {"x"}),
        ("1e-5 + 0x1F-.5 > a.b", "1e-5 + 0x1F-.5 > a.b", {"a", "b"}),
        ("ÉTÉ = Ünder$core_1", "ÉTÉ = Ünder$core_1", {"ÉtÉ", "Ünder$core_1"}),
        ('"" = 1', "`` = 1", {""}),
    ],
)
def test_names_are_found_and_comments_dropped(text: str, sql: str, names: set[str]) -> None:
    condition = Condition.parse(text)
    assert condition.sql == sql
    assert condition.names == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("1; DROP TABLE x", "without `;`"),
        ("1) OR (1", "`\\)` has no `\\(` before"),
        ("(1", "`\\(` has no `\\)` after"),
        ("1 -- )\n)", "`\\)` has no `\\(` before"),
        ("0x1e-- (\n) OR (1 + 0x1e-- )\n", "`\\)` has no `\\(` before"),
        ("1 /* ", "comment never ends"),
        ("1 /*/", "comment never ends"),
        ("'it''s", "text in 'quotes' never ends"),
        ('"a', 'name in "quotes" never ends'),
        ("`a", "name in `quotes` never ends"),
        ("[a", r"name in \[brackets\] never ends"),
        ("a\0b", "NUL"),
        ("a = ?", r"no parameters such as `\?`"),
        ("a = :b", "no parameters such as `:`"),
        ("a = @b", "no parameters such as `@`"),
        ("a = $b", r"no parameters such as `\$`"),
        ("a = '\ud800'", "no Unicode text"),
        ("1 IN (SELECT count(*) FROM _Documents)", "`_documents` is a name of colindex's own"),
        ('1 IN (SELECT count(*) FROM "_documents")', "`_documents` is a name of colindex's own"),
        ("1 IN (SELECT count(*) FROM '_documents')", "`_documents` is a name of colindex's own"),
        ("1 IN (SELECT count(*) FROM \ufeff_documents)", "`_documents` is a name of colindex's own"),
        ("_document = 0", "`_document` is a name of colindex's own"),
        (" " * MAX_CHARACTERS + "1", "65,537 characters, and 65,536 are the most"),
    ],
)
def test_what_is_no_single_expression_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConditionError, match=reason):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("text", "lasts"),
    [
        ("date >= '2020'", True),
        ("date IN ('2020')", True),
        ("date > (1)", True),
        ("'date(now)' = x", True),
        ("date('now') > x", False),
        ("x > DATE /* of today */ ('now')", False),
        ("[date]()", False),
        ("current_timestamp > x", False),
    ],
)
def test_what_asks_for_the_time_does_not_last(text: str, lasts: bool) -> None:
    assert Condition.parse(text).lasts == lasts


SHARP = "( ) (( )) ' \" ` [ ] -- /* */ 1 0x1e 1e . - / * OR a x'00' , ; '' \"\" $a _ é".split(" ")
pieces = st.sampled_from([*SHARP, " ", "\n", "\ufeff", "\x0b"])


@given(st.lists(pieces, max_size=12).map("".join))
def test_nothing_gets_out_of_its_brackets(connection: sqlite3.Connection, text: str) -> None:
    """With a text that is never finished before it, SQLite reads as much of the condition as it would alone."""
    try:
        condition = Condition.parse(text)
    except ConditionError:
        return
    # whatever stands in the brackets, a condition that SQLite takes is the whole second argument of `iif`, and never evaluated
    statement = f"SELECT iif(0, ({condition.sql}\n), 'inside') FROM (SELECT 1 AS a)"
    try:
        found = connection.execute(statement).fetchall()
    except sqlite3.Error:
        return
    assert found == [("inside",)]


unicode = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(unicode)
def test_texts_in_quotes_mean_themselves(connection: sqlite3.Connection, text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    condition = Condition.parse(f"{quoted} /* {quoted.replace('*/', '')} */")
    assert condition.names == set()
    assert connection.execute(f"SELECT {condition.sql}").fetchone() == (text,)


@given(unicode)
def test_names_in_quotes_mean_themselves(connection: sqlite3.Connection, name: str) -> None:
    for quoted in ('"{}"'.format(name.replace('"', '""')), "`{}`".format(name.replace("`", "``"))):
        condition = Condition.parse(quoted)
        assert condition.names == {folded(name)}
        assert connection.execute(f"SELECT 5 AS {condition.sql}").description[0][0] == name


@given(unicode, unicode)
def test_names_fold_as_sqlite_folds_them(connection: sqlite3.Connection, first: str, second: str) -> None:
    for a, b in ((first, second), (first, first.upper()), (first, first.swapcase())):
        (same,) = connection.execute("SELECT ? = ? COLLATE NOCASE", (a, b)).fetchone()
        assert (folded(a) == folded(b)) == bool(same)
