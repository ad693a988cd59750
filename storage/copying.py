"""Copies of files whose sums are known: each is compared while it is copied, so that no damage is carried along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from colindex.storage.checksums import FileSum, file_sum
from colindex.storage.directory import REMEDY, NewFile, corrupt

__all__ = ["check_files", "copy_files"]

_PIECE = 1 << 20


def copy_files(source: Path, target: Path, sums: Mapping[str, FileSum]) -> None:
    """Copy the files of one folder to another; not durable before `fsync_tree`.

    Raises:
        CorruptIndexError: a file is missing, or its bytes are not those that were written.
        DiskSpaceError: the disk is full.
    """
    for name, expected in sums.items():
        copy = NewFile(target / name)
        try:
            with (source / name).open("rb", buffering=0) as file:
                while piece := file.read(_PIECE):
                    copy.write(piece)
        except FileNotFoundError as error:
            raise corrupt(source / name, f"{expected.bytes:,} bytes", error.strerror) from error
        finally:
            copy.discard()
        _compare(source / name, expected, copy.close())


def check_files(folder: Path, sums: Mapping[str, FileSum], remedy: str) -> None:
    """Compare the files of a folder with their sums; `remedy` is what helps where they differ.

    Raises:
        CorruptIndexError: a file is missing, or its bytes are not those that were written.
    """
    for name, expected in sums.items():
        try:
            got = file_sum(folder / name)
        except OSError as error:
            raise corrupt(folder / name, f"{expected.bytes:,} bytes", error.strerror or "an error", remedy) from error
        _compare(folder / name, expected, got, remedy)


def _compare(path: Path, expected: FileSum, got: FileSum, remedy: str = REMEDY) -> None:
    if got != expected:
        raise corrupt(
            path,
            f"{expected.bytes:,} bytes with xxh3_128 {expected.xxh3_128}",
            f"{got.bytes:,} with {got.xxh3_128}",
            remedy,
        )
