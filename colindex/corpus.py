"""Which documents stand in these files?

1. Every path is checked before anything is read: it exists, and its name says a format that is known.
2. A file is opened, decompressed and cut into records: a line (JSONL, TSV), a row (CSV, Parquet), or the whole (text).
3. A record becomes a `Document`: `_id` (or `id`), `title`, `text`; everything else is metadata.
4. A record that cannot become one is an `InvalidRecord`: raised, or counted and passed over with `skip_invalid`.

Everything streams: one record is in memory at a time (one row group of a Parquet file). A `.csv` or `.tsv` with metadata is
read twice, first to see which of its columns hold numbers (`colindex.number_columns`); what is no regular file stays text.

| name | records | notes |
|---|---|---|
| `.jsonl`, `.ndjson`, `-` | one JSON object a line | an id may be a whole number; an object `metadata` is merged in |
| `.csv` | rows (RFC 4180), line feeds inside quotes | the first row names the columns |
| `.tsv` | one record a line, quotes are plain characters | the first line names the columns, or see below |
| `.parquet` | rows | needs pyarrow |
| `.txt`, `.md` | the whole file is one document | its id is the path as given |
| a folder | every `.txt` and `.md` below it, sorted | no hidden ones; the id is the path inside the folder |

A column of metadata in a `.csv` or `.tsv` becomes numbers, and its empty cells null, where every other cell is a number as JSON
writes it: `2020`, `-1.5`, but not `007`. One cell that is not keeps the column text. Each file is judged by itself.

A `.tsv` whose first line names no `text` is read as id and text if it has exactly two columns (MS MARCO).

Each file may be compressed (`.gz`, `.zst`), folders and their members apart. A byte order mark is dropped.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from colindex.errors import CorpusError, MissingDependencyError
from colindex.number_columns import number, number_columns
from colindex.textfiles import STDIN, InvalidRecord, Lines, has_suffix, open_bytes, open_lines, require_file, suffixes
from colindex.types import Document

__all__ = ["CorpusReader", "checked_id", "parse_json_object", "read_corpus", "split_tsv"]

Row = TypeVar("Row")

MAX_ID_BYTES = 511
_KEPT_MESSAGES = 5
_JSON = (".jsonl", ".ndjson")
_TEXT = (".txt", ".md")
_OWN = ("_id", "id", "title", "text")
_PARQUET_ROWS = 1024
# The csv module refuses fields over 128 KiB unless told otherwise, and a document may be longer.
_CSV_FIELD_LIMIT = 2**31 - 1
_KINDS = {
    bool: "true or false",
    str: "text",
    int: "a number",
    float: "a fraction",
    list: "an array",
    dict: "an object",
}


class CorpusReader(Iterator[Document]):
    """Documents as they are read, and the count of what was passed over."""

    def __init__(self, records: Iterator[Document | InvalidRecord], names: str, skip_invalid: bool) -> None:
        """`records` holds documents and, in their place, what is wrong with the malformed ones."""
        self._records = records
        self._names = names
        self._skip_invalid = skip_invalid
        self.documents = 0
        """Documents given out so far."""
        self.skipped = 0
        """Malformed records passed over so far."""
        self.messages: list[str] = []
        """What was wrong with the first few of them."""

    def __next__(self) -> Document:
        """The next document.

        Raises:
            CorpusError: a record is malformed (unless skipped), a file is damaged, or there was no document at all.
        """
        for record in self._records:
            if isinstance(record, Document):
                self.documents += 1
                return record
            if not self._skip_invalid:
                raise record
            self.skipped += 1
            if len(self.messages) < _KEPT_MESSAGES:
                self.messages.append(str(record))
        if not self.documents:
            found = f"only {self.skipped:,} invalid records" if self.skipped else "none"
            raise CorpusError(f"{self._names}: expected at least one document, found {found}.")
        raise StopIteration


def read_corpus(paths: Sequence[Path | str], *, skip_invalid: bool = False) -> CorpusReader:
    """Stream the documents of files, folders or standard input (`-`, JSONL), in the order given.

    Raises:
        CorpusError: a path is missing or of an unknown format; and while reading, see `CorpusReader`.
        MissingDependencyError: a format needs a package that is not installed.
    """
    sources = [_source(path) for path in paths]
    records = (record for source in sources for record in source())
    return CorpusReader(records, ", ".join(map(str, paths)) or "no corpus given", skip_invalid)


def _source(path: Path | str) -> Callable[[], Iterator[Document | InvalidRecord]]:
    """How to read one path, decided by its name alone."""
    require_file(path)
    if str(path) != STDIN and Path(path).is_dir():
        return lambda: _folder(Path(path))
    if str(path) == STDIN or has_suffix(path, _JSON):
        return lambda: _lines(path, _read_jsonl)
    if has_suffix(path, (".csv",)):
        return lambda: _read_table(path, _csv_table)
    if has_suffix(path, (".tsv",)):
        return lambda: _read_table(path, _tsv_table)
    if has_suffix(path, (".parquet",)):
        return lambda: _read_parquet(path)
    if has_suffix(path, _TEXT):
        return lambda: _text_file(path, str(path))
    raise CorpusError(
        f"{path}: expected .jsonl, .tsv, .csv, .parquet, .txt or .md (each also .gz or .zst), "
        f"got {''.join(suffixes(path)) or 'no suffix'}; rename the file, or pipe JSON lines to `-`."
    )


def _lines(
    path: Path | str, read: Callable[[Lines], Iterator[Document | InvalidRecord]]
) -> Iterator[Document | InvalidRecord]:
    with open_lines(path) as lines:
        yield from read(lines)


def _each(
    rows: Iterator[Row], make: Callable[[Row], Document | None], lines: Lines
) -> Iterator[Document | InvalidRecord]:
    """Make a document of each row. What is wrong with a row is yielded, not raised, so that reading can go on."""
    result: Document | InvalidRecord | None
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return
            result = make(row)
        except InvalidRecord as error:
            result = error
        except csv.Error as error:
            result = InvalidRecord(f"{lines.where}: expected a CSV row, got one that is malformed ({error}); fix it.")
        if result is not None:
            yield result


def _read_jsonl(lines: Lines) -> Iterator[Document | InvalidRecord]:
    def make(line: str) -> Document | None:
        return _document(parse_json_object(line, lines.where), lines.where) if line.strip() else None

    return _each(lines, make, lines)


@dataclass(frozen=True, slots=True)
class _Table:
    """A file of rows of text, its first row read."""

    columns: list[str]
    rows: Iterator[list[str]]
    """Empty ones are no records. Goes on after the error of a malformed one."""

    @property
    def metadata(self) -> list[int]:
        """The columns that are nothing else."""
        return [number for number, name in enumerate(self.columns) if name not in _OWN]


def _read_table(path: Path | str, open_table: Callable[[Lines], _Table | None]) -> Iterator[Document | InvalidRecord]:
    """Read a file twice, as its columns need it."""
    numbers = frozenset[int]()
    if Path(path).is_file():
        with open_lines(path) as lines:
            table = open_table(lines)
            if table is not None and table.metadata:
                numbers = number_columns(_sound(table.rows), table.metadata)
    with open_lines(path) as lines:
        table = open_table(lines)
        if table is not None:
            columns = table.columns
            yield from _each(table.rows, lambda row: _from_row(columns, numbers, row, lines) if row else None, lines)


def _sound(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows that can be read: what is wrong with others is said when documents are made of them."""
    while True:
        try:
            row = next(rows, None)
        except (InvalidRecord, csv.Error):
            continue
        except CorpusError:
            return
        if row is None:
            return
        yield row


def _csv_table(lines: Lines) -> _Table | None:
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    # strict: a quote that is never closed is an error, not a document that swallows the rest of the file.
    rows = csv.reader(lines, strict=True)
    try:
        header = next((row for row in rows if row), None)
    except csv.Error as error:
        raise CorpusError(
            f"{lines.where}: expected a row of column names, got one that is malformed ({error})."
        ) from error
    if header is None:
        return None
    columns = _columns(header)
    if columns is None:
        raise CorpusError(
            f"{lines.where}: expected a row of column names with `_id` or `id`, and `text`, got {_shown(header)}."
        )
    return _Table(columns, rows)


def _tsv_table(lines: Lines) -> _Table | None:
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return None
    cells = split_tsv(first)
    columns = _columns(cells)
    if columns is None and len(cells) != 2:
        raise CorpusError(
            f"{lines.where}: expected column names with `_id` or `id`, and `text`, or two columns (id and text) without "
            f"names, got {_shown(cells)}."
        )
    rows = map(_tsv_row, lines)  # no generator: an error would end it
    return _Table(["_id", "text"], chain([cells], rows)) if columns is None else _Table(columns, rows)


def _tsv_row(line: str) -> list[str]:
    return split_tsv(line) if line.strip() else []


def split_tsv(line: str) -> list[str]:
    """The cells of a line of tab-separated values. There is no quoting: a quote is a plain character."""
    return line.rstrip("\r\n").split("\t")


def _columns(header: Sequence[str]) -> list[str] | None:
    """The names in a first row, or None where it does not name an id and a text."""
    names = [cell.strip() for cell in header]
    known = {"id", "_id"} & set(names) and "text" in names
    return names if known and len(set(names)) == len(names) else None


def _from_row(columns: Sequence[str], numbers: frozenset[int], row: Sequence[str], lines: Lines) -> Document:
    if len(row) != len(columns):
        raise InvalidRecord(
            f"{lines.where}: expected {len(columns)} columns ({', '.join(columns)}), got {len(row)}; "
            "a tab or a line feed inside a field needs another format (.csv, .jsonl)."
        )
    cells = [number(cell) if column in numbers else cell for column, cell in enumerate(row)]
    return _document(dict(zip(columns, cells, strict=True)), lines.where)


def parse_json_object(line: str, where: str) -> dict[str, Any]:
    """The JSON object on one line.

    Raises:
        InvalidRecord: it is not JSON, not an object, or not valid Unicode.
    """
    try:
        value = json.loads(line.rstrip(), parse_constant=_no_constant)
        if "\\u" in line:  # half of a surrogate pair is legal JSON, but no text
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InvalidRecord(
            f"{where}, column {error.colno}: expected JSON, got something else ({error.msg}); fix the line."
        ) from error
    except UnicodeEncodeError as error:
        raise InvalidRecord(
            f"{where}: expected valid Unicode, got half of a surrogate pair; fix the escape."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"{where}: expected JSON that can be read, got {error}; fix the line.") from error
    if not isinstance(value, dict):
        raise InvalidRecord(f"{where}, column 1: expected a JSON object, got {_kind(value)}.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name}, which JSON does not have")


def _document(record: Mapping[str, Any], where: str) -> Document:
    """A document from named fields; `_id` wins over `id`.

    Raises:
        InvalidRecord: the id or the text is missing, or a field has a wrong type.
    """
    rest = dict(record)
    name = "_id" if rest.get("_id") is not None else "id"
    id_, text, title = rest.pop(name, None), rest.pop("text", None), rest.pop("title", None)
    if rest.get("_id", "") is None:  # `_id: null` next to an `id`
        del rest["_id"]
    nested = rest.get("metadata")
    if isinstance(nested, Mapping):
        del rest["metadata"]
        rest = {**nested, **rest}
    return Document(
        id=checked_id(id_, where),
        text=_string(text, "text", where),
        title="" if title is None else _string(title, "title", where),
        metadata=rest,
    )


def checked_id(value: object, where: str) -> str:
    """An external id from a field; whole numbers become text.

    Raises:
        InvalidRecord: it is missing, of another type, empty, or longer than the catalog holds.
    """
    if value is None:
        raise InvalidRecord(f"{where}: expected a field `_id` or `id`, found none.")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidRecord(f"{where}: expected the id to be text or a whole number, got {_kind(value)}.")
    id_ = str(value)
    size = len(id_.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidRecord(f"{where}: expected an id of 1 to {MAX_ID_BYTES} bytes, got {size:,}.")
    return id_


def _string(value: object, field: str, where: str) -> str:
    if value is None:
        raise InvalidRecord(f"{where}: expected a field `{field}`, found none.")
    if not isinstance(value, str):
        raise InvalidRecord(f"{where}: expected `{field}` to be text, got {_kind(value)}.")
    return value


def _read_parquet(path: Path | str) -> Iterator[Document | InvalidRecord]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MissingDependencyError(
            "reading .parquet needs the package pyarrow, which is not installed: pip install pyarrow."
        ) from error
    number = 0
    with tempfile.TemporaryFile() as spool, open_bytes(path) as stream:
        try:
            if suffixes(path)[1]:  # Parquet is read from its end, so a compressed one is unpacked first
                shutil.copyfileobj(stream, spool)
            file = ParquetFile(spool if suffixes(path)[1] else stream)
            _require_columns(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield _from_parquet(row, f"{path}, row {number:,}")
        except (ArrowException, EOFError, OSError) as error:
            raise CorpusError(
                f"{path}, after row {number:,}: expected Parquet, but: {error}; the file is damaged or no Parquet."
            ) from error


def _require_columns(path: Path | str, names: Sequence[str]) -> None:
    if _columns(names) is None:
        raise CorpusError(f"{path}: expected columns `_id` or `id`, and `text`, each once, got {_shown(names)}.")


def _from_parquet(row: dict[str, Any], where: str) -> Document | InvalidRecord:
    try:
        return _document({name: _plain(value, name, where) for name, value in row.items()}, where)
    except InvalidRecord as error:
        return error


def _plain(value: object, name: str, where: str) -> object:
    """A Parquet value as JSON holds it: times and decimals as text, NaN (a missing number to pandas) as null."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, name, where) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, name, where) for inner in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise InvalidRecord(f"{where}: expected `{name}` to be something that JSON can hold, got {_kind(value)}.")


def _folder(folder: Path) -> Iterator[Document | InvalidRecord]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in _TEXT and path.is_file() and not hidden:
            yield from _text_file(path, relative.as_posix())


def _text_file(path: Path | str, id_: str) -> Iterator[Document | InvalidRecord]:
    with open_lines(path) as lines:
        try:
            yield Document(id=checked_id(id_, str(path)), text="".join(lines).strip())
        except InvalidRecord as error:
            yield error


def _shown(cells: Iterable[str]) -> str:
    """A row for a message, cut where it is long."""
    text = ", ".join(repr(cell[:40]) for cell in list(cells)[:8])
    return text or "an empty row"


def _kind(value: object) -> str:
    """The type of a value in JSON's words."""
    if value is None:
        return "null"
    return _KINDS.get(type(value), type(value).__name__)
