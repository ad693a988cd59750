"""Bytes: segments in zarr, ids and manifest in LMDB, and the rules by which they become durable.

    with WriterLock(path), Catalog.open_writer(path) as catalog:
        writer = SegmentWriter(path, "000001", record_bytes=36, n_centroids=1024)
        writer.append(records, centroids, offsets, ids, documents)
        info = writer.seal()                          # every file is on the disk, but nothing names them
        catalog.commit(manifest, new_ids)             # one transaction: generation g is there

Nothing here knows what a vector is: records and documents are bytes. zarr and lmdb are imported when they are first
used, not by importing this package.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Catalog": "catalog",
    "FileSum": "checksums",
    "Finding": "verify",
    "Inspection": "segments",
    "Manifest": "manifest",
    "SegmentInfo": "segments",
    "SegmentReader": "segments",
    "SegmentWriter": "segment_writer",
    "ShardFile": "shards",
    "WriterLock": "lock",
    "encode_id": "entries",
    "read_arrays": "plain",
    "remove_strays": "pins",
    "require_space": "directory",
    "verify_index": "verify",
    "write_arrays": "plain",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import the module of a name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
