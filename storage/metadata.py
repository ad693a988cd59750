"""Metadata of a segment's documents, in columns, for conditions on them: one SQLite database a segment.

Writing
1. `append` inserts a row for each document into a database in memory; a key that is new becomes a column (`_Columns`).
2. `finish` writes its pages as one new file. The same rows give the same bytes, with one version of SQLite.

Choosing
1. Compare the file with its sum: SQLite trusts its own pages.
2. Open it for this one evaluation, read-only, with a page cache of 1 MiB: between evaluations nothing is held, which a fork or
   another thread could share.
3. Take the columns that the condition mentions; those that other segments have and this one has not are NULL.
4. Let the statement read that table, walk through JSON, and call functions of its own arguments, and nothing else; interrupt
   it when its time is over.
5. The documents for which the condition is true come back as packed bits. The last eight conditions are kept with theirs.

Memory: writing, the database of one segment three times at the end; choosing, a bit a document for each condition that is kept.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from colindex.storage.checksums import FileSum, file_sum
from colindex.storage.conditions import KEY, TABLE, Condition, ConditionError, folded
from colindex.storage.directory import corrupt, write_new_file
from colindex.storage.errors import StorageError

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["METADATA_FILE", "MetadataTable", "MetadataWriter"]

METADATA_FILE = "metadata.sqlite"
MAX_COLUMNS = 1_900
"""Columns made of metadata; SQLite has 2,000 at most."""
SECONDS = 10.0
"""Time that evaluating one condition in one segment may take."""
KEPT = 8
"""Conditions that are kept with their documents."""

_PAGE_BYTES = 4096
_CACHE_KIB = 1024
_STEPS = 20_000  # of SQLite's virtual machine, between two looks at the clock: about a millisecond
_LENGTH = 4 << 20
"""Bytes of a value while a condition is evaluated, where the file holds none that is longer: all document numbers fit."""
_FUNCTIONS = """
    abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos cosh count date datetime
    degrees exp floor format glob group_concat hex ifnull iif instr json json_array json_array_length json_extract
    json_group_array json_group_object json_object json_patch json_quote json_type json_valid julianday length like
    likelihood likely ln log log10 log2 lower ltrim max min mod nullif octet_length pi pow power printf quote radians replace
    round rtrim sign sin sinh sqrt strftime string_agg substr substring sum tan tanh time timediff total trim trunc typeof
    unicode unixepoch unlikely upper current_date current_time current_timestamp -> ->>
"""
"""What a condition may call. Left out: chance, settings, files, extensions, and what makes values out of nothing."""
_ALLOWED = frozenset(_FUNCTIONS.split())
_TAKEN = frozenset({KEY, TABLE, "id", "title", "true", "false"})
_folded = lru_cache(2_000)(folded)
_TABLES = frozenset({TABLE, "json_each", "json_tree"})


class MetadataWriter:
    """Collects the metadata of one segment in memory."""

    def __init__(self) -> None:
        import sqlite3

        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._connection.execute("PRAGMA auto_vacuum = NONE")
        self._connection.execute("PRAGMA encoding = 'UTF-8'")
        self._connection.execute(f'CREATE TABLE "{TABLE}" ("{KEY}" INTEGER PRIMARY KEY, "id" TEXT, "title" TEXT)')
        self._connection.execute("BEGIN")
        self._columns = _Columns()
        self._documents = 0

    def append(self, id: str, title: str, metadata: Mapping[str, Any]) -> None:
        """Add the next document.

        Raises:
            StorageError: a value is nothing that JSON can hold.
        """
        row: dict[str, Any] = {KEY: self._documents, "id": id, "title": title}
        try:
            for key, value in metadata.items():
                column = self._column(key)
                if column is not None and row.get(column) is None:
                    row[column] = _as_sql(value)
            self._connection.execute(_insertion(tuple(row)), tuple(row.values()))
        except (TypeError, ValueError) as error:
            raise StorageError(f"metadata of {id!r}: expected values that JSON can hold: {error}.") from error
        self._documents += 1

    def finish(self, path: Path) -> FileSum:
        """Write the file; not durable before `fsync_tree`.

        Raises:
            DiskSpaceError: the disk is full.
        """
        self._connection.execute("COMMIT")
        data = self._connection.serialize()
        self.discard()
        return write_new_file(path, data)

    def discard(self) -> None:
        """Give the memory back; twice does nothing."""
        self._connection.close()

    def _column(self, key: str) -> str | None:
        column = self._columns.of(key)
        if column is None and (column := self._columns.new(key)) is not None:
            self._connection.execute(f'ALTER TABLE "{TABLE}" ADD COLUMN {_quoted(column)}')
        return column


class _Columns:
    """Which key goes into which column.

    Keys that differ in the case of ASCII letters alone are one column to SQLite: it is named as the first of them was spelled.
    The first 1,900 get one. None for `id` and `title`, which are the document's own, for names of colindex's own, for `true` and
    `false`, which are values, and with a NUL.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def of(self, key: str) -> str | None:
        """The column of a key, if it has one."""
        return self._names.get(_folded(key))

    def new(self, key: str) -> str | None:
        """Give a key its column, unless it may not have one."""
        name = folded(key)
        if name in _TAKEN or "\0" in key or len(self._names) == MAX_COLUMNS:
            return None
        self._names[name] = key
        return key


class MetadataTable:
    """The metadata of one segment, on disk. Any number of threads may choose from it.

    Args:
        path: the file.
        sum_: what the manifest says of it.
        documents: documents of the segment.
    """

    def __init__(self, path: Path, sum_: FileSum, documents: int) -> None:
        self.path, self._sum, self._documents = path, sum_, documents
        self._names: tuple[str, ...] | None = None
        self._kept = lru_cache(KEPT)(self._evaluate)

    @property
    def resident_bytes(self) -> int:
        """Memory of the conditions that are kept, when there are as many as may be."""
        return KEPT * -(-self._documents // 8)

    def columns(self) -> tuple[str, ...]:
        """Names of the columns that a condition may mention: `id`, `title`, and keys of metadata, first come first.

        Raises:
            CorruptIndexError: the bytes of the file are not those that were written.
        """
        if self._names is None:
            with self._opened() as connection:
                rows = connection.execute(f"SELECT name FROM pragma_table_info('{TABLE}')").fetchall()
            self._names = tuple(name for (name,) in rows if name != KEY)
        return self._names

    def ids(self) -> list[str]:
        """The external id of each document.

        Raises:
            CorruptIndexError: the bytes of the file are not those that were written.
        """
        with self._opened() as connection:
            return [id_ for (id_,) in connection.execute(f'SELECT "id" FROM "{TABLE}" ORDER BY "{KEY}"')]

    def choose(self, condition: Condition, columns: frozenset[str]) -> NDArray[np.uint8]:
        """The documents that meet a condition: packed bits, uint8 [ceil(documents / 8)], read-only.

        Args:
            condition: what to meet.
            columns: the columns, folded, that it may mention; those that this segment has not are NULL.

        Raises:
            ConditionError: it cannot be evaluated, or not in time.
            CorruptIndexError: the bytes of the file are not those that were written.
        """
        mentioned = condition.names & columns
        return (self._kept if condition.lasts else self._evaluate)(condition, mentioned)

    def _evaluate(self, condition: Condition, mentioned: frozenset[str]) -> NDArray[np.uint8]:
        """Steps 1 to 5."""
        statement = _statement(condition, mentioned, {folded(name) for name in self.columns()})
        with self._opened() as connection:
            judge = _restrict(connection, self._sum.bytes)
            with _time_limit(connection) as clock, _reasons(clock, judge):
                (numbers,) = connection.execute(statement).fetchone()
        marks = np.zeros(self._documents, np.bool_)
        if numbers is not None:
            marks[np.fromstring(numbers, np.int64, sep=" ")] = True
        bits = np.packbits(marks, bitorder="little")
        bits.setflags(write=False)
        return bits

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        """Steps 1 and 2."""
        import sqlite3

        try:
            got = file_sum(self.path)
        except OSError as error:
            raise corrupt(self.path, f"{self._sum.bytes:,} bytes", error.strerror or "an error") from error
        if got != self._sum:
            expected = f"{self._sum.bytes:,} bytes with xxh3_128 {self._sum.xxh3_128}"
            raise corrupt(self.path, expected, f"{got.bytes:,}, {got.xxh3_128}")
        name = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(name, uri=True, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                connection.execute("PRAGMA trusted_schema = OFF")  # this and the next: it may be a stranger's
                connection.execute("PRAGMA cell_size_check = ON")
                yield connection
        except sqlite3.Error as error:
            raise corrupt(self.path, "a database", error) from error


def _statement(condition: Condition, mentioned: Iterable[str], own: set[str]) -> str:
    """Step 3. The numbers come as one text, which takes half the time of as many rows."""
    columns = [_quoted(KEY)]
    columns += [_quoted(name) if name in own else f"NULL AS {_quoted(name)}" for name in sorted(mentioned)]
    return (
        f'WITH "{TABLE}" AS (SELECT {", ".join(columns)} FROM main."{TABLE}") '
        f"""SELECT group_concat("{KEY}", ' ') FROM "{TABLE}" WHERE ({condition.sql}\n)"""
    )


class _Judge:
    """Says what a statement may touch."""

    def __init__(self) -> None:
        self.denied = False

    def __call__(self, action: int, first: str | None, second: str | None, _: str | None, __: str | None) -> int:
        import sqlite3

        allowed = (
            action == sqlite3.SQLITE_SELECT
            or (action == sqlite3.SQLITE_READ and first in _TABLES)
            or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _ALLOWED)
        )
        self.denied |= not allowed
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _restrict(connection: Connection, file_bytes: int) -> _Judge:
    """Step 4, but for the time."""
    import sqlite3

    connection.execute(
        "SELECT 1 FROM json_each('[]'), json_tree('[]')"
    )  # SQLite declares them now, with what is denied below
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(_LENGTH, file_bytes))
    judge = _Judge()
    connection.set_authorizer(judge)
    return judge


class _Clock:
    """Says when the time is over."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SECONDS
        self.struck = False

    def __call__(self) -> bool:
        self.struck = time.monotonic() > self._end
        return self.struck


@contextmanager
def _time_limit(connection: Connection) -> Iterator[_Clock]:
    clock = _Clock()
    connection.set_progress_handler(clock, _STEPS)
    yield clock


@contextmanager
def _reasons(clock: _Clock, judge: _Judge) -> Iterator[None]:
    """SQLite's errors become ours."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_IOERR_READ,
            sqlite3.SQLITE_IOERR_SHORT_READ,
        ):
            raise
        if clock.struck:
            raise ConditionError(f"it takes more than {SECONDS:g} s in one segment") from error
        if code == sqlite3.SQLITE_INTERRUPT or (code == sqlite3.SQLITE_AUTH and not judge.denied):
            raise KeyboardInterrupt from error  # nothing else ends a statement inside the clock or the judge
        raise ConditionError(str(error)) from error


@lru_cache(16)  # documents of a collection have the same keys, or one of a few sets of keys
def _insertion(columns: tuple[str, ...]) -> str:
    names, marks = ", ".join(map(_quoted, columns)), ", ".join("?" * len(columns))
    return f'INSERT INTO "{TABLE}" ({names}) VALUES ({marks})'


def _as_sql(value: object) -> object:
    """A JSON value as SQLite keeps it: lists and objects as JSON text, whole numbers beyond 64 bits as the nearest float."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
