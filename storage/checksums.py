"""The checksums of storage.

1. A whole file: xxh3_128 and its length (`FileSum`), kept in the manifest; random damage passes once in 2^128.
2. A 4096-byte block of records: the low 32 bits of its xxh3_64, kept in memory and looked at on each read from disk.
3. A small entry that is read alone (an id, a document, a value of the catalog): xxh3_64 over what it is and where it
   belongs, so that neither a flipped byte nor a wrong offset can pass one entry off as another.
4. crc32c, where the zarr format asks for it.

xxHash: Y. Collet, https://xxhash.com; XXH3 is not cryptographic: it finds damage, not forgery.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
import xxhash
from numpy.typing import NDArray

__all__ = [
    "BLOCK_BYTES",
    "NUMBER_BYTES",
    "FileSum",
    "block_checksums",
    "crc32c",
    "entry_check",
    "file_sum",
    "hash64",
    "numbered_check",
]

BLOCK_BYTES = 4096
"""Bytes of a logical block: the unit of reading, caching and checking records."""

NUMBER_BYTES = 4
"""Bytes of a document's number in what an entry's check covers."""

_LOW_32 = 0xFFFF_FFFF
_READ_BYTES = 1 << 20


class FileSum(NamedTuple):
    """What the manifest knows of a file."""

    bytes: int
    """Its length."""
    xxh3_128: str
    """Its hash, 32 hexadecimal digits."""


def file_sum(path: Path) -> FileSum:
    """Length and hash of a file as it is now, read in pieces of 1 MiB.

    Raises:
        OSError: the file cannot be read.
    """
    digest, size = xxhash.xxh3_128(), 0
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
            size += len(piece)
    return FileSum(size, digest.hexdigest())


def block_checksums(data: bytes | bytearray | memoryview) -> NDArray[np.uint32]:
    """The checksum of each 4096-byte block of `data`, uint32 [blocks]; `data` holds whole blocks."""
    view = memoryview(data).cast("B")
    starts = range(0, len(view), BLOCK_BYTES)
    sums = (xxhash.xxh3_64_intdigest(view[start : start + BLOCK_BYTES]) & _LOW_32 for start in starts)
    return np.fromiter(sums, np.uint32, len(starts))


def entry_check(number: int, payload: bytes) -> int:
    """32-bit check of an entry: its document number (uint32, little-endian) and then its payload."""
    return numbered_check(number.to_bytes(NUMBER_BYTES, "little") + payload)


def numbered_check(numbered: bytes) -> int:
    """The same of number and payload together."""
    return xxhash.xxh3_64_intdigest(numbered) & _LOW_32


def hash64(data: bytes) -> int:
    """xxh3_64 of some bytes."""
    return xxhash.xxh3_64_intdigest(data)


def crc32c(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """CRC-32C (Castagnoli) of `data`, continued from `crc`."""
    view = memoryview(data).cast("B")
    return int(google_crc32c.extend(crc, np.frombuffer(view, np.uint8))) if view else crc
