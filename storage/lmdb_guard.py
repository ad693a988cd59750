"""Whether the catalog's file may be handed to liblmdb.

liblmdb maps its file and believes its pages: a flipped byte can end the process with SIGSEGV, a cut one with SIGBUS
(AltSysrq/lmdb-zero#30, jnwatson/py-lmdb#344). So nothing is opened that was not looked at first, by reading:

1. After each commit the writer durably writes `commit.json` beside `data.mdb`: the newest transaction, the generation,
   and length and xxh3_128 of the file. The text is canonical, so that any changed byte of it is found too.
2. Before opening, both meta pages of `data.mdb` are read by hand for the newest transaction.
3. If that is the one of `commit.json`, the file has to hash to what it says.
4. If it is the next one, a writer ended (or is) between its commit and its `commit.json`: the file's structure is then verified
   page by page in Python (`lmdb.verify`); the values carry checks of their own.
5. A commit's pages reach the file before its meta page does, into pages that no committed tree uses. A writer that ends between
   the two leaves the last transaction whole in a file of other bytes. So it says in `commit.json` beforehand that it is about to
   commit (`committing`), and another hash is then decided by 4 too.
6. Anything else is damage. But a reader may have read the two files before and after a commit; so a mismatch is looked at again,
   for two seconds while somebody holds the writer's lock, and then decided by 4.

A meta page (LMDB 0.9): page header of 16 bytes, magic 0xBEEFC0DE, ... transaction number 128 bytes after the magic.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from colindex.storage.checksums import FileSum, file_sum, hash64
from colindex.storage.directory import corrupt, full_disk_is_said, write_file_durably
from colindex.storage.errors import CorruptIndexError
from colindex.storage.lock import writer_is_active

__all__ = [
    "CommitRecord",
    "allocate_lock_file",
    "announce_commit",
    "check_catalog_file",
    "newest_transaction",
    "read_commit_record",
    "write_commit_record",
]

DATA, LOCK_FILE, RECORD = "data.mdb", "lock.mdb", "commit.json"

_MAGIC = 0xBEEFC0DE
_HEADERS = (16, 24)  # bytes of the page header in LMDB 0.9 and 1.0
_PAGE_SIZE_AT, _TRANSACTION_AT, _META_BYTES = 24, 128, 136  # from the magic on
_LOCK_BYTES = 8192  # of a table of 126 readers
_RETRY_SECONDS, _PAUSE = 2.0, 0.05

_Verifier = Callable[[Path], Sequence[str]]


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What the writer says of `data.mdb` after a commit."""

    last_txnid: int
    generation: int
    file: FileSum
    committing: bool = False
    """Whether the writer is about to commit the next transaction: pages that this one does not use may hold anything."""

    def to_json(self) -> bytes:
        """The stored form: one for each value, so that any other text is damage."""
        value = {"last_txnid": self.last_txnid, "generation": self.generation, **self.file._asdict()}
        if self.committing:
            value["committing"] = True
        check = hash64(json.dumps(value).encode())
        return json.dumps(value | {"check": f"{check:016x}"}, indent=1).encode() + b"\n"


def write_commit_record(folder: Path, generation: int) -> None:
    """Describe `data.mdb` as it is now, durably. The caller holds the writer's lock."""
    data = folder / DATA
    record = CommitRecord(newest_transaction(data), generation, file_sum(data))
    write_file_durably(folder / RECORD, record.to_json())


def announce_commit(folder: Path) -> None:
    """Say durably that a transaction is about to be committed. The caller holds the writer's lock; there is a record."""
    record = read_commit_record(folder)
    if record is not None and not record.committing:
        write_file_durably(folder / RECORD, replace(record, committing=True).to_json())


def read_commit_record(folder: Path) -> CommitRecord | None:
    """What the last commit left; None before the first.

    Raises:
        CorruptIndexError: the file holds something else.
    """
    path = folder / RECORD
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise corrupt(path, "a readable file", error.strerror or "an error") from error
    try:
        value = json.loads(data)
        file = FileSum(value["bytes"], value["xxh3_128"])
        record = CommitRecord(value["last_txnid"], value["generation"], file, value.get("committing", False))
        good = record.to_json() == data
    except (AttributeError, KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise corrupt(path, "the record of a commit", "other bytes")
    return record


def allocate_lock_file(folder: Path) -> None:
    """Give LMDB's table of readers its blocks: LMDB maps it, and a page that a full disk has no room for would be a SIGBUS.

    To be called only while this process has no environment of the folder open: closing a descriptor of it drops LMDB's locks.

    Raises:
        DiskSpaceError: there is no room for it.
    """
    path = folder / LOCK_FILE
    with full_disk_is_said(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.posix_fallocate(descriptor, 0, _LOCK_BYTES)
        finally:
            os.close(descriptor)


def newest_transaction(data: Path) -> int:
    """The number of the last committed transaction in an LMDB file, from its two meta pages.

    Raises:
        CorruptIndexError: it is no LMDB file of this machine, or cut short.
    """
    try:
        with data.open("rb", buffering=0) as file:
            head = file.read(64)
            header = next((at for at in _HEADERS if head[at : at + 4] == struct.pack("=I", _MAGIC)), None)
            if header is None or len(head) < 64:
                raise corrupt(data, "an LMDB file", f"{len(head)} bytes that do not begin one")
            (page_size,) = struct.unpack_from("=I", head, header + _PAGE_SIZE_AT)
            return max(
                _transaction(data, file.seek(start + header), file.read(_META_BYTES)) for start in (0, page_size)
            )
    except OSError as error:
        raise corrupt(data, "a readable file", error.strerror or "an error") from error


def check_catalog_file(folder: Path, verify_structure: _Verifier, *, may_change: bool) -> None:
    """Return only if liblmdb may open `data.mdb` in this folder.

    Args:
        folder: the LMDB environment.
        verify_structure: lists what is wrong in the pages of a file.
        may_change: somebody else may be committing; not so for the holder of the writer's lock.

    Raises:
        CorruptIndexError: it may not.
    """
    deadline, quiet = time.monotonic() + _RETRY_SECONDS, 0
    while True:
        active = may_change and writer_is_active(folder.parent)
        try:
            return _check_once(folder, verify_structure, settled=not active)
        except CorruptIndexError:
            if active and time.monotonic() > deadline:
                return _check_structure(folder / DATA, verify_structure)
            quiet += not active  # a look that began while nobody wrote; a second one, for a writer that came meanwhile
            if quiet > 1 or not may_change:
                raise
        time.sleep(_PAUSE)


def _check_once(folder: Path, verify_structure: _Verifier, *, settled: bool) -> None:
    """Steps 2 to 5; unless `settled`, whoever is writing will have written `commit.json` before pages could be walked."""
    record, newest = read_commit_record(folder), newest_transaction(folder / DATA)
    if record is None and newest <= 1:  # a first writer has made the empty databases, or not even those
        _check_structure(folder / DATA, verify_structure)
        return
    if record is None:
        raise corrupt(folder / RECORD, f"the record of transaction {newest}", "no such file")
    if settled and newest == record.last_txnid + 1:
        _check_structure(folder / DATA, verify_structure)
        return
    if newest != record.last_txnid:
        raise corrupt(folder / DATA, f"transaction {record.last_txnid} to be the last", newest)
    try:
        got = file_sum(folder / DATA)
    except OSError as error:
        raise corrupt(folder / DATA, "a readable file", error.strerror or "an error") from error
    if got == record.file:
        return
    if settled and record.committing:
        _check_structure(folder / DATA, verify_structure)
        return
    expected = f"{record.file.bytes:,} bytes with xxh3_128 {record.file.xxh3_128}"
    raise corrupt(folder / DATA, expected, f"{got.bytes:,}, {got.xxh3_128}")


def _check_structure(data: Path, verify_structure: _Verifier) -> None:
    problems = verify_structure(data)
    if problems:
        raise corrupt(
            data, "sound pages", f"{problems[0]}" + (f" and {len(problems) - 1} more" if problems[1:] else "")
        )


def _transaction(data: Path, start: int, meta: bytes) -> int:
    if len(meta) < _META_BYTES or meta[:4] != struct.pack("=I", _MAGIC):
        raise corrupt(data, f"a meta page at byte {start}", "other bytes")
    return int(struct.unpack_from("=Q", meta, _TRANSACTION_AT)[0])
