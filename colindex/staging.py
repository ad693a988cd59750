"""Staging: the folder in which an index is built, and the note that lets a killed build go on.

    INDEX/staging/state.json      what is being built, and how far it has come
    INDEX/staging/spool/          documents and vectors read so far (`colindex.spool`)
    INDEX/staging/sample/         vectors encoded only to learn the codebook

The note is replaced in one rename. What it names is finished; anything else beside it is made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from colindex.errors import CorruptIndexError, FormatTooNewError, ParameterError
from colindex.fingerprint import fingerprint_difference
from colindex.params import BuildParams
from colindex.spool import Spool
from colindex.storage.checksums import FileSum
from colindex.storage.directory import write_file_durably
from colindex.storage.segments import SegmentInfo

__all__ = ["Staging", "State"]

STATE_VERSION = 1
THIS_ATTEMPTS = ("memory", "threads")
"""Settings that change no answer: each attempt may have its own."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a build has come."""

    kind: str
    """`text` or `vectors`."""
    params: BuildParams
    fingerprint: Mapping[str, Any] | None
    """The encoder's, None for vectors."""
    ingested: bool = False
    """Whether every document is in the spool."""
    documents: int = 0
    """Documents in the spool, once ingested."""
    estimated_tokens: int = 0
    """Token vectors before pooling: counted for vectors, estimated from characters for text."""
    codebook: Mapping[str, FileSum] | None = None
    """Files of the finished codebook: bytes and checksum."""
    sealed: tuple[SegmentInfo, ...] = ()
    """Finished segments."""
    next_chunk: int = 0
    """The first chunk that is in no finished segment."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time spent in each stage so far, over all attempts."""

    def to_json(self) -> bytes:
        """The note's bytes."""
        row = {
            **{name: getattr(self, name) for name in ("kind", "fingerprint", "ingested", "documents", "next_chunk")},
            "version": STATE_VERSION,
            "params": asdict(self.params),
            "estimated_tokens": self.estimated_tokens,
            "codebook": self.codebook,
            "sealed": [info.to_json() for info in self.sealed],
            "seconds": dict(self.seconds),
        }
        return json.dumps(row, indent=1).encode("utf-8")

    @classmethod
    def from_json(cls, content: bytes) -> State:
        """Read a note.

        Raises:
            FormatTooNewError: a newer colindex wrote it.
        """
        row = json.loads(content)
        version = row.pop("version")
        if version > STATE_VERSION:
            raise FormatTooNewError(
                f"staging/state.json: expected version {STATE_VERSION} or older, got {version}; upgrade colindex."
            )
        params = BuildParams(**{name: value for name, value in row.pop("params").items() if name not in THIS_ATTEMPTS})
        sealed = tuple(SegmentInfo.from_json(info) for info in row.pop("sealed"))
        codebook = row.pop("codebook")
        if codebook is not None:
            codebook = {name: FileSum(int(size), str(digest)) for name, (size, digest) in codebook.items()}
        return cls(params=params, sealed=sealed, codebook=codebook, **row)


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging folder of one index."""

    folder: Path

    @classmethod
    def of(cls, index: Path) -> Staging:
        """The staging folder of the index at this path, whether or not it exists."""
        return cls(index / "staging")

    @property
    def spool(self) -> Spool:
        """Everything that was read."""
        return Spool(self.folder / "spool")

    @property
    def sample(self) -> Spool:
        """Vectors that were encoded only to learn the codebook."""
        return Spool(self.folder / "sample")

    def exists(self) -> bool:
        """Whether a build was begun and not finished here."""
        return (self.folder / "state.json").exists()

    def begin(self, state: State) -> State:
        """Start a build."""
        self.spool.create()
        self.sample.create()
        return self.save(state)

    def save(self, state: State) -> State:
        """Replace the note, durably."""
        write_file_durably(self.folder / "state.json", state.to_json())
        return state

    def load(self) -> State:
        """Read the note.

        Raises:
            CorruptIndexError: it cannot be read.
        """
        path = self.folder / "state.json"
        try:
            return State.from_json(path.read_bytes())
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CorruptIndexError(
                f"{path}: the note of the interrupted build is damaged; delete the folder."
            ) from error

    def resume(self, fresh: State) -> State:
        """The state of the interrupted build, after checking that it is this same build.

        Raises:
            ParameterError: other settings, another encoder or another kind of input.
        """
        state = self.load()
        old = {name: value for name, value in asdict(state.params).items() if name not in THIS_ATTEMPTS}
        new = {name: value for name, value in asdict(fresh.params).items() if name not in THIS_ATTEMPTS}
        differ = [f"{name} was {old[name]!r}, is now {new[name]!r}" for name in old if old[name] != new[name]]
        if state.kind != fresh.kind:
            differ.append(f"the input was {state.kind}, is now {fresh.kind}")
        if difference := fingerprint_difference(state.fingerprint or {}, fresh.fingerprint or {}):
            differ.append(f"the encoder is another one ({difference})")
        if differ:
            raise ParameterError(
                f"{self.folder.parent}: cannot resume the interrupted build: {'; '.join(differ)}. "
                "Pass the same settings, or delete the folder and build again."
            )
        return replace(state, params=fresh.params)

    def remove(self) -> None:
        """Delete the staging folder."""
        shutil.rmtree(self.folder)
