"""The manifest: which codebook and which segments make up one generation of an index.

1. A manifest is a value. A writer makes the next one from the last (`Manifest.next`) and commits it; no manifest changes.
2. It is stored as a JSON object (`to_json`), in the catalog. Keys are sorted, so that equal manifests are equal bytes.
3. Reading (`from_json`) checks the format version first: a newer index is refused by its version, whatever else it holds.
   Then every value is checked, and the sums over segments and tombstones.

Format 2 brought `tombstones` and `drift`; a manifest of format 1 has neither, and the next commit makes it one of format 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colindex.storage.checksums import FileSum
from colindex.storage.directory import corrupt
from colindex.storage.errors import FormatTooNewError
from colindex.storage.segments import SegmentInfo
from colindex.storage.tombstones import Tombstones

__all__ = ["FORMAT_VERSION", "Manifest"]

FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that a generation of an index consists of."""

    generation: int
    """1 for the first commit, then one more each time."""
    created: str
    """When this generation was committed, ISO 8601 with time zone."""
    dim: int
    """Dimensions of the stored vectors."""
    input_dim: int
    """Dimensions of the vectors as the encoder makes them."""
    bits: int
    """Bits a dimension of the residual codes."""
    codec: str
    """Name of the codec of the records."""
    params: Mapping[str, Any]
    """The build's settings, a JSON object."""
    encoder: Mapping[str, Any] | None
    """The encoder's fingerprint, a JSON object; None where vectors were handed in."""
    codebook: str
    """Folder name of the codebook without its suffix, such as `codebook-000001`."""
    codebook_files: Mapping[str, FileSum]
    """Each file of the codebook by its path below its folder."""
    segments: tuple[SegmentInfo, ...]
    next_segment: int
    """Number of the next segment; never used twice."""
    documents: int
    """Documents of all segments that are not deleted."""
    tokens: int
    """Stored vectors of all segments, those of deleted documents too."""
    tombstones: Mapping[str, Tombstones] = field(default_factory=dict)
    """Deleted documents, by the name of their segment; none for a segment without any."""
    drift: Mapping[str, Any] | None = None
    """How far what was added lies from what the codebook was learned from, a JSON object; None before the first add."""
    format_version: int = FORMAT_VERSION

    def next(self, **changes: Any) -> Manifest:
        """The manifest of the next generation: this one but for the changes; documents and tokens are counted anew."""
        following = replace(
            self,
            generation=self.generation + 1,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            format_version=FORMAT_VERSION,
            **changes,
        )
        documents, tokens = following.counted()
        return replace(following, documents=documents, tokens=tokens)

    def counted(self) -> tuple[int, int]:
        """Documents that are not deleted, and stored vectors, as segments and tombstones have them."""
        deleted = sum(each.deleted for each in self.tombstones.values())
        documents = sum(segment.documents for segment in self.segments) - deleted
        return documents, sum(segment.tokens for segment in self.segments)

    def deleted(self, segment: str) -> int:
        """How many documents of a segment are deleted."""
        return self.tombstones[segment].deleted if segment in self.tombstones else 0

    def to_json(self) -> bytes:
        """The stored form."""
        value = {name: getattr(self, name) for name in self.__dataclass_fields__}
        value["segments"] = [segment.to_json() for segment in self.segments]
        value["codebook_files"] = {name: list(sum_) for name, sum_ in self.codebook_files.items()}
        value["params"] = dict(self.params)
        value["encoder"] = None if self.encoder is None else dict(self.encoder)
        value["tombstones"] = {segment: each.to_json() for segment, each in self.tombstones.items()}
        value["drift"] = None if self.drift is None else dict(self.drift)
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes, path: Path) -> Manifest:
        """Read the stored form; `path` is where it lay, for messages.

        Raises:
            FormatTooNewError: a newer colindex wrote it.
            CorruptIndexError: it is no manifest.
        """
        try:
            value = json.loads(data)
            version = _integer(value["format_version"])
            if version > FORMAT_VERSION:
                raise FormatTooNewError(
                    f"{path}: this index has format version {version}, this colindex reads up to {FORMAT_VERSION}; "
                    "upgrade colindex."
                )
            manifest = cls._from_value(value)
        except (KeyError, TypeError, ValueError) as error:
            raise corrupt(path, "a manifest", f"something else ({type(error).__name__}: {error})") from error
        if strangers := set(manifest.tombstones) - {segment.name for segment in manifest.segments}:
            raise corrupt(path, "tombstones of segments that there are", f"some of {sorted(strangers)}")
        if (named := (manifest.documents, manifest.tokens)) != (counted := manifest.counted()):
            raise corrupt(path, f"documents and tokens {named}, as the manifest says", f"{counted} in its segments")
        return manifest

    @classmethod
    def _from_value(cls, value: Mapping[str, Any]) -> Manifest:
        encoder = value["encoder"]
        living = value["format_version"] > 1  # what format 1 did not have yet
        drift, tombstones = (value["drift"], value["tombstones"]) if living else (None, {})
        return cls(
            format_version=_integer(value["format_version"]),
            generation=_integer(value["generation"]),
            created=_text(value["created"]),
            dim=_integer(value["dim"]),
            input_dim=_integer(value["input_dim"]),
            bits=_integer(value["bits"]),
            codec=_text(value["codec"]),
            next_segment=_integer(value["next_segment"]),
            documents=_integer(value["documents"]),
            tokens=_integer(value["tokens"]),
            codebook=_text(value["codebook"]),
            params=_object(value["params"]),
            encoder=None if encoder is None else _object(encoder),
            codebook_files={
                name: FileSum(_integer(size), _text(hash_)) for name, (size, hash_) in value["codebook_files"].items()
            },
            segments=tuple(SegmentInfo.from_json(segment) for segment in value["segments"]),
            tombstones={str(segment): Tombstones.from_json(each) for segment, each in _object(tombstones).items()},
            drift=None if drift is None else _object(drift),
        )


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {value!r}")
    return value
