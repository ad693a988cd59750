"""A folder as one file, `.tar` or `.tar.zst`, and back; both ways as a stream.

1. Packing takes the files in a given order and removes each once it is packed, so that the disk never holds everything twice.
2. Unpacking makes plain files below the folder only: a name that leads elsewhere, a link or a device is refused.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import zstandard

from colindex.storage.directory import NewFile, corrupt

__all__ = ["is_archive", "is_other_archive", "pack", "unpack"]

_PIECE = 1 << 20
_REMEDY = "copy the archive again, or export anew"
_OTHERS = (".7z", ".bz2", ".gz", ".rar", ".tbz2", ".tgz", ".txz", ".tzst", ".xz", ".zip", ".zst")


def is_archive(path: Path) -> bool:
    """Whether a name is that of an archive."""
    return path.name.endswith((".tar", ".tar.zst"))


def is_other_archive(path: Path) -> bool:
    """Whether a name is that of an archive, or of a compressed file, of another kind: no name for a folder.

    >>> is_other_archive(Path("x.tar.gz")), is_other_archive(Path("x.tar.zst")), is_other_archive(Path("x.v2"))
    (True, False, False)
    """
    return path.name.lower().endswith(_OTHERS) and not is_archive(path)


def pack(folder: Path, names: Sequence[str], target: Path, *, compressed: bool) -> None:
    """Move files of `folder`, by their names in it, into a new archive at `target`."""
    file = NewFile(target)
    try:
        sink = _Sink(file, compressed=compressed)
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            for name in names:
                path = folder / name
                header = tarfile.TarInfo(name)
                header.size, header.mtime = path.stat().st_size, int(path.stat().st_mtime)
                with path.open("rb") as content:
                    archive.addfile(header, content)
                path.unlink()
        sink.end()
    finally:
        file.discard()


def unpack(path: Path, folder: Path) -> None:
    """Write the files of an archive below `folder`.

    Raises:
        CorruptIndexError: it is no archive, is cut short, or holds more than plain files below itself.
    """
    try:
        with _opened(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or not _is_below(member.name):
                    raise corrupt(path, "plain files below the archive's folder", repr(member.name), _REMEDY)
                _write(folder / member.name, content)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise corrupt(path, "a tar archive", f"something else ({error})", _REMEDY) from error


class _Sink:
    """A file that compresses what is written to it, or does not."""

    def __init__(self, file: NewFile, *, compressed: bool) -> None:
        self._file = file
        self._zstd = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj() if compressed else None

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._file.write(data if self._zstd is None else self._zstd.compress(data))
        return len(data)

    def end(self) -> None:
        """Write what the compressor still holds."""
        if self._zstd is not None:
            self._file.write(self._zstd.flush())


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if path.name.endswith(".zst"):
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
                yield stream
        else:
            yield file


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _write(path: Path, content: IO[bytes]) -> None:
    file = NewFile(path)
    try:
        while piece := content.read(_PIECE):
            file.write(piece)
    finally:
        file.discard()
