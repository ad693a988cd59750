"""Pins: readers hold the folders of their generation, and writers remove no folder that somebody holds.

1. A reader opens each folder that its generation names (codebook, segments, tombstones) and takes `flock(LOCK_SH)` on it. Nothing
   is written, so this works where the reader may not write. The operating system lets go when the last process with the
   descriptor ends, however it ends.
2. A folder that is missing, or that a writer is removing at this moment, means that the generation is gone: the reader looks for
   the newest one and begins again.
3. A writer removes a folder only while it holds `flock(LOCK_EX)` on it (`remove_strays`). What is held stays, as a stray
   that a later writer removes.

File systems without such locks on folders (some network ones) cannot tell: there readers hold nothing, and writers remove
nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from collections.abc import Iterable
from pathlib import Path

from colindex.storage.directory import remove_tree
from colindex.storage.layout import codebook_path, stray_paths
from colindex.storage.manifest import Manifest
from colindex.storage.segments import segment_path
from colindex.storage.tombstones import tombstones_path

__all__ = ["GenerationGoneError", "Pins", "folders_of", "remove_strays"]

_UNSUPPORTED = (errno.ENOLCK, errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


class GenerationGoneError(Exception):
    """A folder of a generation has been removed; never leaves the package: whoever opens looks for a newer one."""


class Pins:
    """Holds some folders until it is collected; whoever needs their files keeps a reference.

    Raises:
        GenerationGoneError: one of them is not there any more.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        held: list[int] = []
        self._release = weakref.finalize(self, _close, held)
        try:
            for folder in folders:
                _hold(folder, held)
        except BaseException:
            self._release()
            raise


def folders_of(index_path: Path, manifest: Manifest) -> list[Path]:
    """Every folder of data that a generation names."""
    folders = [codebook_path(index_path, manifest.codebook)]
    folders += [segment_path(index_path, segment.name) for segment in manifest.segments]
    folders += [tombstones_path(index_path, each.name) for each in manifest.tombstones.values()]
    return folders


def remove_strays(index_path: Path, manifest: Manifest | None) -> list[Path]:
    """Remove what the latest generation does not name and no reader holds; the caller holds the `WriterLock`.

    Returns:
        What was removed.
    """
    return [path for path in stray_paths(index_path, manifest) if _removed(path)]


def _removed(path: Path) -> bool:
    if not path.is_dir() or path.is_symlink():
        remove_tree(path)
        return True
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        remove_tree(path)
        return True
    finally:
        os.close(descriptor)


def _hold(folder: Path, held: list[int]) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise GenerationGoneError(str(folder)) from error
    held.append(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise GenerationGoneError(str(folder)) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    if not os.path.exists(folder):  # removed between the two calls
        raise GenerationGoneError(str(folder))


def _close(held: list[int]) -> None:
    while held:
        os.close(held.pop())
