"""One writer at a time.

1. `writer.lock` is opened, made if need be, and never removed: a file that is unlinked and made again could be locked twice.
2. `flock(LOCK_EX | LOCK_NB)` on it decides. The operating system lets go of it when the holder ends, however it ends,
   so there is no stale lock to break.
3. The holder writes who it is (process, host, since when) into the file, for the message of whoever comes second.
   The text decides nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from colindex.storage.errors import IndexLockedError, IndexReadOnlyError

__all__ = ["LOCK_NAME", "WriterLock", "read_only_is_said", "writer_is_active"]

LOCK_NAME = "writer.lock"
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_ATTEMPTS, _PAUSE = 5, 0.02


class WriterLock:
    """The right to write an index; use it as a context manager.

    Raises:
        IndexLockedError: another process, or another part of this one, is writing this index.
        IndexReadOnlyError: this process may not write its folder.
    """

    def __init__(self, index_path: Path) -> None:
        self._path = Path(index_path, LOCK_NAME)
        self._descriptor = -1

    def __enter__(self) -> WriterLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, or raise IndexLockedError within a tenth of a second; IndexReadOnlyError where nobody can."""
        descriptor = self._opened()
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # a reader that looks (writer_is_active) holds it for an instant: try again
                if attempt + 1 == _ATTEMPTS:
                    holder = _holder(os.pread(descriptor, 4096, 0))
                    os.close(descriptor)
                    raise IndexLockedError(
                        f"{self._path}: this index is being written by {holder}; "
                        "wait until it has finished, or end that process (its lock ends with it)."
                    ) from None
                time.sleep(_PAUSE)
        self._descriptor = descriptor
        with suppress(OSError):  # a full disk has no room for an introduction; the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _introduction(), 0)

    def _opened(self) -> int:
        with read_only_is_said(self._path.parent):
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def release(self) -> None:
        """Let go of the lock; releasing twice does nothing."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a forked child may still hold a copy of the descriptor
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def read_only_is_said(index_path: Path) -> Iterator[None]:
    """While the folder of an index is made or locked, a refusal becomes the error that says what to do.

    Raises:
        IndexReadOnlyError: this process may not write there.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise IndexReadOnlyError(
            f"{index_path}: expected a folder that this process may write, got: {error.strerror}. An index can be searched "
            "there as it is; to change it, get the right to write, or copy it to where you have it."
        ) from error


def writer_is_active(index_path: Path) -> bool:
    """Whether somebody holds the writer's lock at this moment; nothing is written to find out."""
    try:
        descriptor = os.open(Path(index_path, LOCK_NAME), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _introduction() -> bytes:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()


def _holder(text: bytes) -> str:
    """Who holds the lock, in words; the text may be half written."""
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
