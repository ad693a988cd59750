"""The newest generation of an index, held as long as somebody copies it.

Writers go on meanwhile: what they commit is newer, and they remove no folder that is held (`pins.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colindex.storage.catalog import Catalog
from colindex.storage.directory import corrupt
from colindex.storage.errors import StorageError
from colindex.storage.manifest import Manifest
from colindex.storage.pins import GenerationGoneError, Pins, folders_of

__all__ = ["pinned"]

_ATTEMPTS = 100


@contextmanager
def pinned(index_path: Path) -> Iterator[Manifest]:
    """The manifest of the newest generation, whose folders stay until the block ends.

    Raises:
        IndexNotFoundError, IndexNotBuiltError, FormatTooNewError: there is nothing to hold.
        CorruptIndexError: the catalog is damaged, or a folder that it names is missing.
    """
    manifest, pins = _hold(index_path)
    try:
        yield manifest
    finally:
        del pins


def _hold(index_path: Path) -> tuple[Manifest, Pins]:
    for _ in range(_ATTEMPTS):
        with Catalog.open_reader(index_path) as catalog:
            manifest = catalog.manifest()
            try:
                return manifest, Pins(folders_of(index_path, manifest))
            except GenerationGoneError as error:
                if catalog.is_latest():  # nobody has removed it for a newer one
                    raise corrupt(Path(str(error)), "a folder", "none") from error
    raise StorageError(f"{index_path}: generations were replaced faster than one could be held; try again.")
