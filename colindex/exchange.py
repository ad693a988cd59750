"""The exchange format: an index as plain files that anybody reads, with zarr and JSON alone.

    wiki.export/  (or wiki.export.tar, wiki.export.tar.zst)
      README.txt              how to read the rest
      manifest.json           what the index is, and length and xxh3_128 of every other file
      documents.jsonl.zst     {"id", "title", "text", "metadata"}, one document a line, in order
      vectors.zarr/           a zarr v3 group, one row a stored vector, documents in order
        offsets               first vector of each document, int64 [documents + 1]
        vectors               decoded, float16 [vectors, dim]; may be left out
        records               as the index stores them, uint8 [vectors, record bytes]
        token_ids, spans, pool_map, source_offsets     what inspection needs, where the index has it
      codebook.zarr/          the codebook as the index stores it: projection, centroids, code levels

Decoded vectors are for everybody; records and codebook are the same without loss, so that an import answers bit for bit as the
index did. Only documents that are not deleted are in it. `exporting.py` writes it, `importing.py` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from colindex.errors import CorruptIndexError, FormatTooNewError
from colindex.storage.checksums import FileSum, hash64

__all__ = ["CODEBOOK", "DOCUMENTS", "MANIFEST", "README", "VECTORS", "ExchangeManifest", "Part", "readme"]

MANIFEST, README, DOCUMENTS = "manifest.json", "README.txt", "documents.jsonl.zst"
VECTORS, CODEBOOK = "vectors.zarr", "codebook.zarr"
FORMAT, VERSION = "colindex export", 1
REMEDY = "copy the export again, or make a new one with `colindex export`"


@dataclass(frozen=True, slots=True)
class Part:
    """Some documents, one after the other, that have the same inspection columns."""

    documents: int
    columns: tuple[str, ...]
    pooled: bool
    """Whether source tokens are others than stored vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeManifest:
    """What an export says of itself."""

    generation: int
    """Of the index when it was exported."""
    created: str
    """When the index committed that generation, ISO 8601."""
    documents: int
    tokens: int
    """Stored vectors."""
    source_tokens: int
    """Token vectors before pooling."""
    dim: int
    input_dim: int
    bits: int
    codec: str
    record_bytes: int
    params: Mapping[str, Any]
    """The settings of the build."""
    encoder: Mapping[str, Any] | None
    """The encoder's fingerprint; None where the index was built from vectors."""
    drift: Mapping[str, Any] | None
    parts: tuple[Part, ...]
    files: Mapping[str, FileSum]
    """Every other file by its path, with `/` between the parts."""

    def to_json(self) -> bytes:
        """The stored form, with a check of itself."""
        value = {"format": FORMAT, "version": VERSION} | asdict(self)
        value["files"] = {name: list(sum_) for name, sum_ in sorted(self.files.items())}
        value["check"] = _check(value)
        return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def read(cls, path: Path) -> ExchangeManifest:
        """Read the stored form.

        Raises:
            CorruptIndexError: the file is missing, damaged, or of something else.
            FormatTooNewError: a newer colindex wrote it.
        """
        try:
            return cls._of_value(json.loads(path.read_bytes()), path)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CorruptIndexError(
                f"{path}: expected the manifest of an export, got none ({error}); {REMEDY}."
            ) from error

    @classmethod
    def _of_value(cls, value: dict[str, Any], path: Path) -> ExchangeManifest:
        """Raises KeyError, TypeError or ValueError for anything else."""
        format_, version = value.pop("format"), value.pop("version")
        if format_ != FORMAT:
            raise ValueError(f"of format {format_!r}")
        if version > VERSION:
            raise FormatTooNewError(
                f"{path}: this export has format version {version}, this colindex reads up to {VERSION}; upgrade colindex."
            )
        check = value.pop("check")
        if check != (computed := _check({"format": format_, "version": version} | value)):
            raise ValueError(f"its check is {check}, its content has {computed}")
        files = {name: FileSum(*sum_) for name, sum_ in value.pop("files").items()}
        if outside := [
            name for name in files if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute()
        ]:
            raise ValueError(f"it names files outside the export: {outside[0]!r}")
        parts = tuple(Part(part["documents"], tuple(part["columns"]), part["pooled"]) for part in value.pop("parts"))
        return cls(**value, files=files, parts=parts)


def readme(manifest: ExchangeManifest) -> str:
    """What README.txt says."""
    has_vectors = any(name.startswith(f"{VECTORS}/vectors/") for name in manifest.files)
    return _README.format(
        documents=manifest.documents,
        tokens=manifest.tokens,
        dim=manifest.dim,
        input_dim=manifest.input_dim,
        record_bytes=manifest.record_bytes,
        vectors=_WITH_VECTORS.format(tokens=manifest.tokens, dim=manifest.dim) if has_vectors else _WITHOUT_VECTORS,
        made=_OF_VECTORS
        if manifest.encoder is None
        else _OF_TEXTS.format(name=manifest.encoder.get("name", "unknown")),
    )


def _check(value: Mapping[str, Any]) -> str:
    return f"{hash64(json.dumps(value, sort_keys=True).encode()):016x}"


_WITH_VECTORS = "vectors    float16 [{tokens}, {dim}]: the stored vectors, decoded"
_WITHOUT_VECTORS = "(the decoded vectors were left out of this export; decode the records)"
_OF_TEXTS = "The vectors are those of the encoder {name!r}; manifest.json holds its fingerprint."
_OF_VECTORS = "The vectors were handed in by somebody; there is no encoder."
_README = """\
A late-interaction (multi-vector) index, exported by colindex: {documents} documents, {tokens} vectors.

To have the index back:    colindex import THIS INDEX

To read it without colindex (any zarr v3 reader, any JSON reader, zstd):

documents.jsonl.zst    one JSON object a line: id, title, text, metadata. Line n is document n, from 0 (`zstd -dc` unpacks it).

vectors.zarr           one row a vector
  offsets    int64 [documents + 1]: document n owns rows offsets[n] to offsets[n + 1], the last one excluded
  {vectors}
  records    uint8 [{tokens}, {record_bytes}]: the same without loss, as docs/FORMAT.md of colindex describes it
  token_ids, spans, pool_map, source_offsets: where the index has them; which token of the text a vector is

codebook.zarr
  projection              float32 [{input_dim}, {dim}]: from the encoder's space to that of the vectors
  clustering.centroids    float16 [centroids, {dim}]
  codec.levels            float32 [256]

{made}

The score of a document for a query is the sum over the query's vectors of the greatest dot product with one of the document's:

    import numpy, zarr
    group = zarr.open_group("vectors.zarr", mode="r")
    codebook = zarr.open_group("codebook.zarr", mode="r")
    projection = codebook["projection"][:]
    offsets = group["offsets"][:]

    query = ...                                     # the encoder's vectors of a query, [query tokens, {input_dim}]
    query = query @ projection
    if codebook.attrs["renormalize"]:
        query /= numpy.linalg.norm(query, axis=1, keepdims=True)
    n = 0                                           # the first document
    vectors = group["vectors"][offsets[n] : offsets[n + 1]].astype("float32")
    score = (query @ vectors.T).max(axis=1).sum()   # as colindex scores, but for rounding

manifest.json          what the index is, and the length and xxh3_128 of every file here
"""
