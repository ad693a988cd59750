"""Plain arrays: zarr v3 arrays of one chunk whose file is the values themselves.

1. An array's folder holds `zarr.json` (codecs `bytes, crc32c`) and `c/0` (`c/0/0` for two dimensions, and so on).
2. That file is the values, little-endian, in C order, and then 4 bytes of CRC-32C of them, little-endian. Value `i` lies at
   byte `i * itemsize`, so that part of it can be read with `pread`, and all of it without importing zarr, which takes
   longer than opening an index.
3. An array without values has no chunk, only `zarr.json`.
4. A group is a folder of such arrays beside a `zarr.json` with its attributes.

Any zarr v3 reader opens all of it, and checks the CRC too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from colindex.storage.arrays import METADATA, group_metadata, plain_metadata
from colindex.storage.checksums import FileSum, crc32c
from colindex.storage.directory import (
    NewFile,
    corrupt,
    fsync_folder,
    fsync_tree,
    read_exactly,
    remove_tree,
    write_new_file,
)

__all__ = ["CRC_BYTES", "PlainWriter", "Sums", "read_arrays", "read_json", "read_plain", "write_arrays", "write_plain"]

CRC_BYTES = 4

Sums = dict[str, FileSum]
"""Sums of files by their path below some folder, with `/` between the parts."""


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> Sums:
    """Write a group of plain arrays, durable on return; what was at `path` is removed first.

    Args:
        path: the folder of the group; its parent exists.
        arrays: arrays of any shape, of integers, floats or booleans, by name.
        attributes: any JSON object.

    Returns:
        The sum of each file by its path below `path`, as `read_arrays` and the manifest take it.

    Raises:
        DiskSpaceError: the disk is full.
    """
    remove_tree(path)
    sums = {METADATA: write_new_file(path / METADATA, group_metadata(attributes))}
    for name, array in arrays.items():
        sums |= below(name, write_plain(path / name, array))
    fsync_tree(path)
    fsync_folder(path.parent)
    return sums


def read_arrays(
    path: Path, sums: Mapping[str, FileSum] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of a group that `write_arrays` wrote, read-only, and its attributes.

    Args:
        path: the folder of the group.
        sums: what the manifest says of its files; None trusts the CRC-32C in each array.

    Raises:
        CorruptIndexError: a file is missing, of another length, or of other bytes.
    """
    attributes = read_json(path / METADATA, _named(path, METADATA, sums)).get("attributes", {})
    if sums is None:
        names = {child.name for child in path.iterdir() if child.is_dir()}
    else:
        names = {name.split("/")[0] for name in sums} - {METADATA}
    return {name: read_plain(path / name, within(sums, name)) for name in sorted(names)}, attributes


class PlainWriter:
    """Writes a one-dimensional plain array whose length is not known yet."""

    def __init__(self, folder: Path, dtype: DTypeLike) -> None:
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._file = NewFile(folder / "c" / "0")
        self._crc = 0

    @property
    def size(self) -> int:
        """Bytes of values so far."""
        return self._file.bytes

    def write(self, values: bytes | bytearray | memoryview) -> None:
        """Append values that are little-endian bytes already."""
        self._crc = crc32c(values, self._crc)
        self._file.write(values)

    def finish(self) -> Sums:
        """End the array and describe it; not durable before `fsync_tree`."""
        length = self.size // self._dtype.itemsize
        self._file.write(self._crc.to_bytes(CRC_BYTES, "little"))
        sums = {"c/0": self._file.close()}
        if not length:
            remove_tree(self._folder / "c")
            sums = {}
        return sums | {METADATA: write_new_file(self._folder / METADATA, plain_metadata((length,), self._dtype))}

    def discard(self) -> None:
        """Let go of the file, as it is."""
        self._file.discard()


def write_plain(folder: Path, array: NDArray[Any]) -> Sums:
    """Write one plain array; not durable before `fsync_tree`."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    sums = {METADATA: write_new_file(folder / METADATA, plain_metadata(array.shape, array.dtype))}
    if array.size:
        name, values = _chunk_name(array.ndim), array.reshape(-1).view(np.uint8).data
        file = NewFile(folder / name)
        try:
            file.write(values)
            file.write(crc32c(values).to_bytes(CRC_BYTES, "little"))
        finally:
            file.discard()
        sums[name] = file.close()
    return sums


def read_plain(folder: Path, sums: Mapping[str, FileSum] | None = None) -> NDArray[Any]:
    """A plain array whole, read-only.

    Raises:
        CorruptIndexError: a file is missing, of another length, or of other bytes.
    """
    metadata = read_json(folder / METADATA, _named(folder, METADATA, sums))
    try:
        shape = tuple(int(length) for length in metadata["shape"])
        dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
    except (KeyError, TypeError, ValueError) as error:
        raise corrupt(folder / METADATA, "the shape and type of an array", f"none ({error})") from error
    size, name = math.prod(shape), _chunk_name(len(shape))
    if not size:
        return np.empty(shape, dtype)
    data = read_exactly(folder / name, 0, size * dtype.itemsize + CRC_BYTES)
    stored, computed = int.from_bytes(data[-CRC_BYTES:], "little"), crc32c(memoryview(data)[:-CRC_BYTES])
    if stored != computed:
        raise corrupt(folder / name, f"crc32c {stored:08x}", f"{computed:08x}")
    _check(folder / name, data, _named(folder, name, sums))
    return np.frombuffer(data, dtype, size).reshape(shape)


def read_json(path: Path, sum_: FileSum | None = None) -> dict[str, Any]:
    """A JSON object from a file; its bytes are compared with `sum_` where that is given.

    Raises:
        CorruptIndexError: the file is missing, holds other bytes than `sum_` says, or no JSON object.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise corrupt(path, "a readable file", error.strerror or "an error") from error
    _check(path, data, sum_)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise corrupt(path, "a JSON object", f"other bytes ({error})") from error
    if not isinstance(value, dict):
        raise corrupt(path, "a JSON object", type(value).__name__)
    return value


def below(folder: str, sums: Mapping[str, FileSum]) -> Sums:
    """The same files as seen from the folder above `folder`."""
    return {f"{folder}/{name}": sum_ for name, sum_ in sums.items()}


def within(sums: Mapping[str, FileSum] | None, folder: str) -> Sums | None:
    """The files of `folder` alone, as seen from it."""
    if sums is None:
        return None
    return {name.removeprefix(f"{folder}/"): sum_ for name, sum_ in sums.items() if name.startswith(f"{folder}/")}


def _named(folder: Path, name: str, sums: Mapping[str, FileSum] | None) -> FileSum | None:
    """What the manifest says of a file; None where there is no manifest to ask."""
    if sums is not None and name not in sums:
        raise corrupt(folder / name, "to be named by the manifest", "no mention of it")
    return None if sums is None else sums[name]


def _check(path: Path, data: bytes, sum_: FileSum | None) -> None:
    if sum_ is None:
        return
    got = FileSum(len(data), xxhash.xxh3_128_hexdigest(data))
    if got != sum_:
        raise corrupt(path, f"{sum_.bytes:,} bytes with xxh3_128 {sum_.xxh3_128}", f"{got.bytes:,}, {got.xxh3_128}")


def _chunk_name(dimensions: int) -> str:
    return "/".join(["c"] + ["0"] * dimensions)
