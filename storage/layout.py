"""Where things are in the folder of an index, and what in it belongs to nothing.

    wiki.colindex/
      writer.lock              held by whoever writes
      catalog.lmdb/            data.mdb, lock.mdb, commit.json
      manifest.json            a copy of the newest manifest, in case the catalog is lost
      codebook-000001.zarr/    the codebook
      segments/000001.zarr/    a segment
      tombstones/000001-000007.zarr/   deleted documents of segment 000001 as of generation 7

A crash leaves files that no generation names: codebooks and segments of a commit that never came, files half renamed; and a
commit leaves what only earlier generations name. They harm nobody, and the next writer removes them (`pins.remove_strays`), but
for folders that a reader still holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from colindex.storage.errors import IndexNotBuiltError, IndexNotFoundError
from colindex.storage.lmdb_guard import DATA, LOCK_FILE, RECORD
from colindex.storage.lock import LOCK_NAME
from colindex.storage.manifest import Manifest
from colindex.storage.manifest_copy import COPY
from colindex.storage.tombstones import FOLDER as TOMBSTONES

__all__ = ["codebook_path", "next_codebook", "not_built", "require_index", "stray_paths"]


def codebook_path(index_path: Path, name: str) -> Path:
    """The folder of a codebook."""
    return Path(index_path, f"{name}.zarr")


def next_codebook(name: str) -> str:
    """The name of the codebook after one, such as `codebook-000002`."""
    return f"codebook-{int(name.removeprefix('codebook-')) + 1:06d}"


def stray_paths(index_path: Path, manifest: Manifest | None) -> list[Path]:
    """Files and folders of an index that its latest generation does not name, sorted.

    A folder appears once if all of it is stray; inside the segments and codebooks that are named, single files appear.
    """
    named = {LOCK_NAME, COPY} | {f"catalog.lmdb/{name}" for name in (DATA, LOCK_FILE, RECORD)}
    if manifest is not None:
        named |= {f"{manifest.codebook}.zarr/{name}" for name in manifest.codebook_files}
        for segment in manifest.segments:
            named |= {f"segments/{segment.name}.zarr/{name}" for name in segment.files}
        for each in manifest.tombstones.values():
            named |= {f"{TOMBSTONES}/{each.name}.zarr/{name}" for name in each.files}
    return sorted(Path(index_path, stray) for stray in _strays(index_path, named))


def _strays(index_path: Path, named: set[str]) -> Iterator[str]:
    """Step by step from the root: names as strings, since every commit looks at every file."""
    folders = {"segments", TOMBSTONES}
    for name in named:
        while (name := name.rpartition("/")[0]) and name not in folders:
            folders.add(name)
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(index_path, folder)) as children:
            for child in children:
                name = f"{folder}{child.name}"
                if name in folders and child.is_dir():
                    pending.append(f"{name}/")
                elif name not in named:
                    yield name


def require_index(index_path: Path) -> None:
    """Tell a folder that is no index from one whose build has begun.

    Raises:
        IndexNotFoundError: it is no index.
    """
    if not index_path.is_dir():
        raise IndexNotFoundError(f"{index_path}: expected the folder of an index, got none; check the path.")
    if not Path(index_path, "catalog.lmdb").is_dir() and not (index_path / LOCK_NAME).exists():
        raise IndexNotFoundError(
            f"{index_path}: expected the folder of an index, got one without catalog.lmdb; check the path."
        )


def not_built(index_path: Path) -> IndexNotBuiltError:
    """The error of a folder whose build has begun and committed nothing yet."""
    return IndexNotBuiltError(
        f"{index_path}: no index yet: a build has begun here, but nothing was committed; wait for it, or continue it "
        "with `colindex build --resume`."
    )
