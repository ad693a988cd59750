"""A copy of the newest manifest beside the catalog, for the day on which the catalog cannot be read.

`manifest.json` holds the manifest as the catalog does, and a check of it. It is written durably after each commit; nothing
reads it but `verify` and `repair`. A crash may leave that of the generation before, which the next writer replaces.
"""

from __future__ import annotations

from pathlib import Path

from colindex.storage.checksums import hash64
from colindex.storage.directory import corrupt, write_file_durably
from colindex.storage.manifest import Manifest

__all__ = ["COPY", "read_manifest_copy", "refresh_manifest_copy", "write_manifest_copy"]

COPY = "manifest.json"
_REMEDY = "the next writer writes it anew"


def write_manifest_copy(index_path: Path, manifest: Manifest) -> None:
    """Put the copy in place of the one before. The caller holds the writer's lock."""
    write_file_durably(index_path / COPY, _framed(manifest.to_json()))


def refresh_manifest_copy(index_path: Path, manifest: Manifest) -> None:
    """Write the copy if it is missing, of an earlier generation, or damaged. The caller holds the writer's lock."""
    path = index_path / COPY
    if not path.is_file() or path.read_bytes() != _framed(manifest.to_json()):
        write_manifest_copy(index_path, manifest)


def read_manifest_copy(index_path: Path) -> Manifest | None:
    """The manifest in the copy; None where there is none, as in an index of an earlier colindex.

    Raises:
        CorruptIndexError: it is damaged.
        FormatTooNewError: a newer colindex wrote it.
    """
    path = index_path / COPY
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise corrupt(path, "a readable file", error.strerror or "an error", _REMEDY) from error
    content = data[len(_framed(b"")) - 2 : -2]
    if _framed(content) != data:
        raise corrupt(path, "a manifest and its check", "other bytes", _REMEDY)
    return Manifest.from_json(content, path)


def _framed(content: bytes) -> bytes:
    """A JSON object whose beginning has always the same length."""
    return b'{"check":"%016x","manifest":' % hash64(content) + content + b"}\n"
