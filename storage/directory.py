"""The durability rules, in one place.

1. Whatever storage writes goes through `operations`: create, write, fsync, replace, and the commit of the catalog.
   A test puts another object there and makes the Nth step fail or tear; nothing else in storage touches a file.
2. A file that takes the place of another (`write_file_durably`) is written beside it, synced, renamed over it, and then
   its folder is synced: a crash leaves the old bytes or the new ones, never a mixture.
3. A file that nothing names yet (`NewFile`) is written in place and counts for nothing until `fsync_tree` has synced it
   and its folders; only then may a commit name it.
4. A file is read with `pread`, never mapped: one that was cut short raises `CorruptIndexError`, not SIGBUS.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from colindex.storage.checksums import FileSum
from colindex.storage.errors import CorruptIndexError, DiskSpaceError

__all__ = [
    "REMEDY",
    "NewFile",
    "Operations",
    "corrupt",
    "disk_full",
    "free_bytes",
    "fsync_file",
    "fsync_folder",
    "fsync_tree",
    "full_disk_is_said",
    "opened",
    "operations",
    "read_exactly",
    "read_from",
    "remove_tree",
    "require_space",
    "write_file_durably",
    "write_new_file",
]

_FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDY = "restore it from a copy, or see what `colindex verify --repair --dry-run` would keep"


class Operations:
    """The steps that change a disk. Each either happens whole or raises OSError; tests replace this object."""

    def create(self, path: Path) -> int:
        """Make an empty file, or empty the one that is there, and open it for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def write(self, descriptor: int, data: memoryview) -> None:
        """Hand all of `data` to the operating system; a crash may lose any part of it until it is synced."""
        while data:
            data = data[os.write(descriptor, data) :]

    def fsync(self, descriptor: int) -> None:
        """Wait until what was written to this file or folder is on the disk."""
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename over `target`; readers see the old file or the new one."""
        os.replace(source, target)

    def commit(self, act: Callable[[], None]) -> None:
        """Run the one step that makes a generation visible."""
        act()


operations = Operations()
"""What every module of storage writes through."""


class NewFile:
    """A file that nothing names yet, written from its beginning to its end; its sum is taken as bytes pass."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._hash = xxhash.xxh3_128()
        self._descriptor = -1
        with full_disk_is_said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = operations.create(path)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`.

        Raises:
            DiskSpaceError: the disk is full.
        """
        view = memoryview(data).cast("B")
        with full_disk_is_said(self.path):
            operations.write(self._descriptor, view)
        self._hash.update(view)
        self.bytes += len(view)

    def close(self) -> FileSum:
        """End the file. It is not on the disk before `fsync_tree`."""
        self.discard()
        return FileSum(self.bytes, self._hash.hexdigest())

    def discard(self) -> None:
        """Let go of the file, as it is; closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_new_file(path: Path, data: bytes | memoryview) -> FileSum:
    """Write a file that nothing names yet, at once."""
    file = NewFile(path)
    try:
        file.write(data)
    finally:
        file.discard()
    return file.close()


def write_file_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash leaves either the old file or the new one; durable on return."""
    temporary = path.with_name(path.name + ".tmp")
    write_new_file(temporary, data)
    with full_disk_is_said(path):
        _fsync_path(temporary)
        operations.replace(temporary, path)
        fsync_folder(path.parent)


def fsync_tree(path: Path) -> None:
    """Make every file and every folder under `path`, and `path`, durable: files first, then folders from the leaves."""
    with full_disk_is_said(path):  # some file systems find room for what was written only now
        for folder, _, files in os.walk(path, topdown=False):
            for name in sorted(files):
                _fsync_path(Path(folder, name))
            fsync_folder(Path(folder))


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _fsync_path(path)


def fsync_file(path: Path) -> None:
    """Make the bytes of a file durable."""
    _fsync_path(path)


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with all in it; one that is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Bytes that may still be written where `path` is or would be made."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_space(path: Path, needed: int, what: str) -> None:
    """Refuse early what would fill the disk.

    Raises:
        DiskSpaceError: fewer than `needed` bytes are free at `path`.
    """
    free = free_bytes(path)
    if free < needed:
        raise DiskSpaceError(
            f"{path}: {what} needs {needed:,} bytes, but only {free:,} are free; "
            f"free {needed - free:,} more or choose a folder on another disk."
        )


@contextmanager
def full_disk_is_said(path: Path) -> Iterator[None]:
    """While something is written to `path`, a full disk becomes the error that says so.

    Raises:
        DiskSpaceError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or isinstance(error, DiskSpaceError):
            raise
        raise disk_full(path) from error


def disk_full(path: Path) -> DiskSpaceError:
    """The error of a disk that is full."""
    return DiskSpaceError(
        f"{path}: the disk is full ({free_bytes(path):,} bytes free); free some space and run the command again."
    )


def read_exactly(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes of a file from `offset`.

    Raises:
        CorruptIndexError: the file is missing, unreadable, or ends before that.
    """
    with opened(path) as descriptor:
        return read_from(descriptor, path, offset, size)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a file of ours, to read from.

    Raises:
        CorruptIndexError: the file is missing or unreadable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise corrupt(path, "a readable file", error.strerror or "an error") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_from(descriptor: int, path: Path, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` of a file that is open; `path` is for messages.

    Raises:
        CorruptIndexError: the file is unreadable, or ends before that.
    """
    try:
        data = os.pread(descriptor, size, offset)
        while 0 < len(data) < size:
            more = os.pread(descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise corrupt(path, f"{size:,} bytes at {offset:,}", error.strerror or "an error") from error
    if len(data) != size:
        raise corrupt(path, f"{size:,} bytes at {offset:,}", f"{len(data):,} before the end of the file")
    return data


def corrupt(path: Path, expected: object, got: object, remedy: str = REMEDY) -> CorruptIndexError:
    """The error of a file whose bytes are not those that were committed."""
    return CorruptIndexError(f"{path}: expected {expected}, got {got}; {remedy}.")


def _fsync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        operations.fsync(descriptor)
    finally:
        os.close(descriptor)
