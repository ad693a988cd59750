"""A new file or folder that appears whole or not at all.

1. The destination must not be there.
2. Everything is written in a working folder beside it, `.NAME.partial`, which is locked (flock): what a kill left in it is
   removed by whoever comes next, even if only to be told that the destination is there, and nobody disturbs somebody who still
   works.
3. `publish` syncs the result, renames it to the destination and syncs the folder around it.
4. The working folder goes in the end, whatever happens.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from colindex.storage import directory
from colindex.storage.directory import fsync_folder, fsync_tree, remove_tree
from colindex.storage.errors import IndexExistsError, IndexLockedError

__all__ = ["publish", "working_folder"]


@contextmanager
def working_folder(destination: Path) -> Iterator[Path]:
    """An empty folder beside `destination`, to write in; gone after the block.

    Raises:
        IndexExistsError: the destination is there already.
        IndexLockedError: somebody else is writing the same destination.
        OSError: the folder around it is missing, or cannot be written.
    """
    folder = destination.absolute().with_name(f".{destination.absolute().name}.partial")
    if not folder.is_dir():
        _require_absent(destination)
    descriptor = _hold(folder, destination)
    try:
        for left in folder.iterdir():
            remove_tree(left)
        _require_absent(destination)
        yield folder
    finally:
        remove_tree(folder)
        os.close(descriptor)


def _hold(folder: Path, destination: Path) -> int:
    """Make the folder, if need be, and lock it; the descriptor that holds the lock."""
    while True:
        folder.mkdir(exist_ok=True)
        with ExitStack() as undo, suppress(FileNotFoundError):  # whoever had it may remove it at any moment
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, descriptor)
            _lock(descriptor, folder, destination)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                undo.pop_all()
                return descriptor


def _lock(descriptor: int, folder: Path, destination: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _require_absent(destination)  # its writer is about to end
        raise IndexLockedError(
            f"{destination}: another process is writing it at this moment (in {folder}); wait until it has finished."
        ) from None


def publish(result: Path, destination: Path) -> None:
    """Make a file or folder of the working folder the destination, durably.

    Raises:
        IndexExistsError: the destination has come to be there.
    """
    if result.is_dir():
        fsync_tree(result)
    else:
        directory.fsync_file(result)
    _require_absent(destination)
    directory.operations.replace(result, destination)
    fsync_folder(destination.absolute().parent)


def _require_absent(destination: Path) -> None:
    if os.path.lexists(destination):
        raise IndexExistsError(
            f"{destination}: expected a new path, got one that exists; choose another, or remove it first."
        )
