"""Filters: which documents meet a condition on their metadata.

1. Check the condition and note the names that it mentions (`colindex.storage.conditions`).
2. Its columns are those of all segments together; a name that none of them has is an error.
3. Evaluate it segment by segment (`colindex.storage.metadata`): a column that a segment has not is NULL there.

SQL's rules of NULL hold: a document for which the condition is NULL does not meet it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colindex.errors import FilterError
from colindex.storage.conditions import Condition, ConditionError, folded
from colindex.storage.manifest import Manifest
from colindex.storage.metadata import MetadataTable
from colindex.storage.segments import SegmentReader
from colindex.storage.tombstones import read_tombstones

__all__ = ["columns", "evaluate", "matching"]

_SHOWN = 20
_QUOTED = 200


def evaluate(segments: Sequence[SegmentReader], where: str) -> tuple[NDArray[np.uint8], ...]:
    """The documents of each segment that meet a condition: packed bits, uint8 [ceil(documents / 8)], read-only.

    Args:
        segments: the segments of one generation.
        where: an SQL expression on `id`, `title` and the keys of metadata, such as `year >= 2020 AND lang = 'en'`.

    Raises:
        FilterError: it is no such expression, takes too long, or a segment was written before there was metadata to ask.
        CorruptIndexError: a file of metadata has other bytes than were written.
    """
    if not isinstance(where, str):
        raise FilterError(f"where: expected an SQL expression as str, got {type(where).__name__}.")
    tables = [_table(segment) for segment in segments]
    known = columns(tables)
    names = frozenset(folded(name) for name in known)
    try:
        condition = Condition.parse(where)
        return tuple(table.choose(condition, names) for table in tables)
    except ConditionError as error:
        raise FilterError(_explained(where, str(error), known)) from error


def matching(path: Path, manifest: Manifest, where: str) -> Iterator[str]:
    """The ids of the documents of a generation that are not deleted and meet a condition.

    Raises:
        As `evaluate`.
    """
    segments = [SegmentReader(path, info) for info in manifest.segments]
    for segment, bits in zip(segments, evaluate(segments, where), strict=True):
        marks = np.unpackbits(bits, count=segment.info.documents, bitorder="little")
        if (tombstones := manifest.tombstones.get(segment.info.name)) is not None:
            marks[read_tombstones(path, tombstones, segment.info.documents)] = 0
        yield from segment.external_ids(np.flatnonzero(marks).tolist())


def columns(tables: Iterable[MetadataTable | None]) -> tuple[str, ...]:
    """What a condition may mention, of segments that have metadata: `id`, `title`, and the keys, each as it is spelled first.

    Raises:
        CorruptIndexError: a file of metadata has other bytes than were written.
    """
    spelled: dict[str, str] = {}
    for table in tables:
        for name in () if table is None else table.columns():
            spelled.setdefault(folded(name), name)
    return tuple(spelled.values())


def _table(segment: SegmentReader) -> MetadataTable:
    if segment.metadata is None:
        raise FilterError(
            f"{segment.path}: expected a table of metadata to filter by, but an older colindex wrote this segment "
            "without one; run `colindex compact --full` to give it one."
        )
    return segment.metadata


def _explained(where: str, reason: str, known: Sequence[str]) -> str:
    shown = where if len(where) <= _QUOTED else f"{where[:_QUOTED]}..."
    names = ", ".join(known[:_SHOWN])
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    return (
        f"where: expected an SQL expression such as `year >= 2020 AND lang = 'en'`, got {shown!r}: {reason}. "
        f"Columns: {names}{more}; texts stand in 'single quotes', names with other signs than letters in \"double\" ones."
    )
