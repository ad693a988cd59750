"""Entries that are read one at a time: external ids and document payloads.

1. Entries lie one after the other in a plain uint8 array `bytes`; entry `n` is `bytes[offsets[n]:offsets[n + 1]]`, where
   `offsets` is a plain uint64 array of one more value than there are entries.
2. An entry is a check of 4 bytes, little-endian, and its payload. The check covers the number of the entry and the payload
   (`checksums.entry_check`): neither a flipped byte nor a wrong offset can pass one entry off as another.
3. One entry costs two small reads and no memory between them. Short entries, which ids are, are read in one native call, from
   files that stay open and pages of them that a thread keeps, where the extension was compiled (storage/native/entries.h).

Ids are UTF-8. A document payload is a zstd frame with content size and checksum of the bytes that the caller gave.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import zstandard

from colindex.storage.checksums import NUMBER_BYTES, FileSum, entry_check, numbered_check
from colindex.storage.directory import corrupt, opened, read_exactly, read_from
from colindex.storage.errors import InvalidIdError
from colindex.storage.plain import PlainWriter, below, write_plain

try:
    from colindex.storage._reads import Entries
except ImportError:
    HAS_NATIVE = False
else:
    HAS_NATIVE = True

__all__ = [
    "HAS_NATIVE",
    "MAX_ID_BYTES",
    "EntryReader",
    "EntryWriter",
    "compress",
    "decode_id",
    "decompress",
    "encode_id",
]

MAX_ID_BYTES = 511
"""The longest key of an LMDB built with its defaults."""

_CHECK_BYTES = 4
_BOUNDS: Final = struct.Struct("<QQ")  # of an entry, in the file of offsets
_LEVEL = 3
_BYTES, _OFFSETS = "bytes", "offsets"


class EntryWriter:
    """Appends entries; holds 8 bytes of memory for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bytes = PlainWriter(folder / _BYTES, np.uint8)
        self._offsets = [0]

    def append(self, payload: bytes) -> None:
        """Append the next entry."""
        number = len(self._offsets) - 1
        self._bytes.write(entry_check(number, payload).to_bytes(_CHECK_BYTES, "little") + payload)
        self._offsets.append(self._bytes.size)

    def finish(self) -> dict[str, FileSum]:
        """End both arrays; not durable before `fsync_tree`."""
        offsets = write_plain(self._folder / _OFFSETS, np.array(self._offsets, np.uint64))
        return below(_BYTES, self._bytes.finish()) | below(_OFFSETS, offsets)

    def discard(self) -> None:
        """Let go of the file being written."""
        self._bytes.discard()


class EntryReader:
    """Reads entries by number from the files. None is longer than `short`, if that is given."""

    def __init__(self, folder: Path, entries: int, short: int | None = None) -> None:
        self._bytes = folder / _BYTES / "c" / "0"
        self._offsets = folder / _OFFSETS / "c" / "0"
        self._entries, self._short = entries, short
        self._native = Entries(str(self._offsets), str(self._bytes)) if HAS_NATIVE and short is not None else None

    def read(self, number: int) -> bytes:
        """The payload of entry `number`.

        Raises:
            IndexError: there is no entry of this number.
            CorruptIndexError: its bytes are not those that were written.
        """
        return self.read_many([number])[0]

    def read_many(self, numbers: Iterable[int]) -> list[bytes]:
        """The payloads of some entries, in the order asked for.

        Raises:
            As `read`.
        """
        wanted = [int(number) for number in numbers]
        if not wanted:
            return []  # a segment without entries has no file of bytes
        if (wrong := min(wanted)) < 0 or (wrong := max(wanted)) >= self._entries:
            raise IndexError(f"document {wrong} of a segment with {self._entries}")
        if (payloads := self._read_short(wanted)) is not None:
            return payloads
        with opened(self._offsets) as offsets, opened(self._bytes) as stored:
            size = os.fstat(stored).st_size
            return [self._read(offsets, stored, size, number) for number in wanted]

    def find(self, payload: bytes) -> list[int]:
        """The numbers of the entries with this payload, rising: a walk through all bytes.

        Raises:
            As `read`.
        """
        if not self._entries:
            return []
        starts = np.frombuffer(read_exactly(self._offsets, 0, 8 * (self._entries + 1)), "<u8")
        content = read_exactly(self._bytes, 0, int(starts[-1]))
        found, at = [], content.find(payload)
        while at >= 0:
            number = int(np.searchsorted(starts, at - _CHECK_BYTES, side="right")) - 1
            if number >= 0 and starts[number] == at - _CHECK_BYTES and self.read(number) == payload:
                found.append(number)
            at = content.find(payload, at + 1)
        return found

    def find_each(self, payloads: Iterable[bytes]) -> dict[bytes, list[int]]:
        """The numbers of the entries with each of some payloads, rising: one walk through all entries for all of them.

        Raises:
            As `read`.
        """
        found: dict[bytes, list[int]] = {payload: [] for payload in payloads}
        if not self._entries:
            return found
        starts = np.frombuffer(read_exactly(self._offsets, 0, 8 * (self._entries + 1)), "<u8").tolist()
        content = read_exactly(self._bytes, 0, starts[-1])
        numbers = [
            number
            for number, (start, stop) in enumerate(pairwise(starts))
            if content[start + _CHECK_BYTES : stop] in found
        ]
        for number, payload in zip(numbers, self.read_many(numbers), strict=True):
            found[payload].append(number)
        return found

    def _read_short(self, numbers: list[int]) -> list[bytes] | None:
        """All in one native call; None where there is none, or where something is wrong: reading one by one says what."""
        if self._native is None or self._short is None or (found := self._native.read(numbers, self._short)) is None:
            return None
        for check, numbered in zip(*found, strict=True):
            if numbered_check(numbered) != check:
                return None
        return [numbered[NUMBER_BYTES:] for numbered in found[1]]

    def _read(self, offsets: int, stored: int, size: int, number: int) -> bytes:
        start, stop = _BOUNDS.unpack(read_from(offsets, self._offsets, 8 * number, 16))
        if not start + _CHECK_BYTES <= stop <= size:
            raise corrupt(self._offsets, f"the bounds of entry {number}", f"{start} to {stop}")
        entry = read_from(stored, self._bytes, start, stop - start)
        check, payload = int.from_bytes(entry[:_CHECK_BYTES], "little"), entry[_CHECK_BYTES:]
        if (computed := entry_check(number, payload)) != check:
            raise corrupt(self._bytes, f"check {check:08x} of entry {number} at byte {start:,}", f"{computed:08x}")
        return payload


def encode_id(id: str) -> bytes:
    """An external id as it is stored.

    Raises:
        InvalidIdError: it is not text of 1 to 511 bytes in UTF-8.
    """
    if not isinstance(id, str):
        raise InvalidIdError(f"id {id!r}: expected a str, got {type(id).__name__}; convert it with str().")
    try:
        key = id.encode()
    except UnicodeEncodeError as error:
        raise InvalidIdError(
            f"id {id!r}: expected text that UTF-8 can hold, got a lone surrogate at character {error.start}; replace it."
        ) from error
    if not 1 <= len(key) <= MAX_ID_BYTES:
        raise InvalidIdError(
            f"id {id[:40]!r}: expected 1 to {MAX_ID_BYTES} bytes in UTF-8, got {len(key)}; "
            "give each document a shorter id and keep the long one in its metadata."
        )
    return key


def decode_id(key: bytes) -> str:
    """The external id whose stored bytes these are; they were checked before."""
    return key.decode()


def compress(documents: Sequence[bytes]) -> list[bytes]:
    """Each document as a zstd frame of its own, with content size and checksum."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
    return [compressor.compress(document) for document in documents]


def decompress(path: Path, frame: bytes) -> bytes:
    """The document in a frame that came from `path`.

    Raises:
        CorruptIndexError: it is no whole zstd frame.
    """
    try:
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise corrupt(path, "a zstd frame", str(error)) from error
