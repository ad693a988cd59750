"""Text files, plain or compressed, as numbered lines of UTF-8.

1. Open the bytes: `.gz` through gzip, `.zst` through zstandard, `-` is standard input.
2. Split them at line feeds.
3. Decode each line alone, so that one bad line can be named, and passed over by those who want to.

What is wrong with one record is an `InvalidRecord`; what is wrong with a file (missing, cut short) is a `CorpusError`.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from colindex.errors import CorpusError, MissingDependencyError

if TYPE_CHECKING:
    import zstandard

__all__ = ["InvalidRecord", "Lines", "has_suffix", "open_bytes", "open_lines", "require_file", "suffixes"]

STDIN = "-"
COMPRESSIONS = (".gz", ".zst")
_BLOCK = 1 << 17
# A zstd frame may ask for any window; `zstd --ultra --long=31` is the largest that its own tool writes.
_ZSTD_WINDOW = 2**31
_BOM = "\ufeff"


class InvalidRecord(CorpusError):
    """One line or row of a file is malformed; the next one may be sound."""


class Lines(Iterator[str]):
    """The lines of a byte stream, decoded; goes on after the `InvalidRecord` of a line that is not UTF-8."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """`name` is how messages call the file."""
        self._stream = stream
        self.name = name
        """The file as messages call it."""
        self.number = 0
        """Lines read so far, so the number of the last one, from 1."""

    @property
    def where(self) -> str:
        """The place of the last line, for messages."""
        return f"{self.name}, line {self.number:,}"

    def __next__(self) -> str:
        """The next line with its line end.

        Raises:
            InvalidRecord: it is not UTF-8.
            CorpusError: the file cannot be read further.
        """
        try:
            raw = self._stream.readline()
        except (EOFError, zlib.error, OSError) as error:
            raise CorpusError(
                f"{self.name}, after line {self.number:,}: cannot be read further ({error}); "
                "the file is damaged or cut short: copy it again."
            ) from error
        if not raw:
            raise StopIteration
        self.number += 1
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise InvalidRecord(
                f"{self.where}, byte {error.start + 1}: expected UTF-8, got byte 0x{raw[error.start]:02x}; "
                "convert the file to UTF-8."
            ) from error
        return line.removeprefix(_BOM) if self.number == 1 else line


def suffixes(path: Path | str) -> tuple[str, str]:
    """The format and the compression that a name claims, in lower case.

    >>> suffixes("Corpus.JSONL.gz"), suffixes("corpus.tsv")
    (('.jsonl', '.gz'), ('.tsv', ''))
    """
    path = Path(path)
    last = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), last) if last in COMPRESSIONS else (last, "")


def has_suffix(path: Path | str, formats: tuple[str, ...]) -> bool:
    """Whether a name, its compression apart, ends in one of `formats`."""
    return suffixes(path)[0] in formats


def require_file(path: Path | str) -> None:
    """Refuse a path at which nothing can be read.

    Raises:
        CorpusError: nothing stands there.
    """
    if str(path) != STDIN and not Path(path).exists():
        raise CorpusError(f"{path}: expected a file, found nothing; check the path.")


@contextmanager
def open_lines(path: Path | str) -> Iterator[Lines]:
    """The lines of a file, or of standard input for `-`.

    Raises:
        CorpusError: the file cannot be opened.
        MissingDependencyError: it is `.zst` and zstandard is not installed.
    """
    with open_bytes(path) as stream:
        yield Lines(stream, "standard input" if str(path) == STDIN else str(path))


@contextmanager
def open_bytes(path: Path | str) -> Iterator[BinaryIO]:
    """The bytes of a file after decompression.

    Raises:
        CorpusError: the file cannot be opened.
        MissingDependencyError: it is `.zst` and zstandard is not installed.
    """
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            plain = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CorpusError(f"{path}: cannot be opened ({reason}); check the path and its rights.") from error
        yield stack.enter_context(_decompressed(plain, suffixes(path)[1]))


def _decompressed(stream: BinaryIO, compression: str) -> BinaryIO:
    if compression == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=stream))
    if compression == ".zst":
        return io.BufferedReader(_Chunks(_zstd_chunks(stream)), _BLOCK)
    return stream


def _zstd_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Decompress frame after frame.

    zstandard's own reader takes a file that is cut in mid-frame for a whole one; this raises EOFError.
    """
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependencyError(
            "reading .zst needs the package zstandard, which is not installed: pip install zstandard."
        ) from error
    frame: zstandard.ZstdDecompressionObj | None = None
    while block := stream.read(_BLOCK):
        while block:
            if frame is None:
                frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
            try:
                yield frame.decompress(block)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error
            block = b""
            if frame.eof:
                block, frame = frame.unused_data, None
    if frame is not None:
        raise EOFError("the zstd frame ends before its end marker")


class _Chunks(io.RawIOBase):
    """A raw stream over an iterator of byte strings."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
