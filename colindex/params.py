"""The settings of a build and of a search: keyword-only, validated, immutable.

No search changes a later search, and nothing in colindex reads a setting from anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from colindex.errors import ColindexError, MemoryBudgetError, ParameterError, QueryError

__all__ = [
    "BITS",
    "MINIMUM_BUILD_MEMORY",
    "BuildParams",
    "SearchParams",
    "Unit",
    "Window",
    "checked_k",
    "one_of",
    "parse_build_memory",
    "parse_bytes",
]

Choice = TypeVar("Choice")

Window = Literal["document", "sentence"]
"""What an encoder sees at once: a document, or each of its sentences alone (`colindex.windows`)."""
Unit = Literal["document", "sentence"]
"""What documents are ranked by: all of each, or its best sentence (`colindex.passages`)."""

BITS = (1, 2, 4, 8, 32)
"""What a dimension of a stored vector may take."""
MINIMUM_BUILD_MEMORY = 640 << 20
"""Bytes. A quarter of a build's memory is for coding, and one chunk takes 160 MiB while it is coded (`colindex.segmenting`)."""

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def parse_bytes(size: int | str) -> int:
    """Bytes in a size such as `512MiB`, `2 GB` or `1048576`.

    >>> parse_bytes("2MiB")
    2097152

    Raises:
        ParameterError: it is no size, or not positive.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", size.lower())
        if match is None or match[2] not in _UNITS:
            raise ParameterError(f"memory: expected a size such as 512MiB or 2GB, got {size!r}.")
        size = int(float(match[1]) * _UNITS[match[2]])
    if size <= 0:
        raise ParameterError(f"memory: expected a positive number of bytes, got {size}.")
    return size


def parse_build_memory(size: int | str) -> int:
    """Bytes in a size that bounds a build.

    Raises:
        ParameterError: it is no size.
        MemoryBudgetError: no build keeps within it.
    """
    parsed = parse_bytes(size)
    if parsed < MINIMUM_BUILD_MEMORY:
        raise MemoryBudgetError(
            f"memory: expected at least {MINIMUM_BUILD_MEMORY >> 20} MiB for a build (its documents are coded in chunks, in "
            f"a quarter of its memory), got {size!r}; pass a larger one."
        )
    return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildParams:
    """How an index is built. Everything here that changes answers is kept in the index's manifest."""

    bits: int = 2
    """Bits a dimension of the residual codes: 1, 2, 4 or 8; 32 keeps the vectors as they are, for exact scores."""
    dim: int | None = None
    """Learn a PCA to this many dimensions first; None keeps the vectors' own."""
    pool_factor: int = 1
    """Merge the tokens of a document to about one vector in this many, 1 to 8."""
    protected_tokens: int = 1
    """First tokens of each document that pooling leaves alone."""
    centroids: int | None = None
    """Number of centroids; None decides by the number of tokens."""
    sample_tokens: int | None = None
    """Token vectors that the codebook is learned from; None decides by memory."""
    segment_tokens: int = 8_000_000
    """A segment is sealed when it holds this many stored vectors (or 65,536 documents)."""
    memory: int | str = "2GiB"
    """Bound on what the build keeps in memory, the encoder's model apart; 640 MiB or more."""
    seed: int = 0
    """Seed of sampling, clustering and rotation."""
    threads: int | None = None
    """Threads of clustering and coding; None takes all cores."""

    @classmethod
    def of_index(cls, stored: Mapping[str, Any]) -> BuildParams:
        """The settings that an index was built with, as its manifest holds them; memory and threads are this machine's."""
        known = {
            name: stored[name]
            for name in cls.__dataclass_fields__
            if name in stored and name not in ("memory", "threads")
        }
        return cls(**known)

    def __post_init__(self) -> None:
        one_of("bits", self.bits, BITS)
        _within("pool_factor", self.pool_factor, 1, 8)
        _within("protected_tokens", self.protected_tokens, 0, 1024)
        _within("segment_tokens", self.segment_tokens, 1, 2**31)
        _within("seed", self.seed, 0, 2**32 - 1)
        for name, low, high in (("dim", 8, 1024), ("centroids", 1, 2**24), ("sample_tokens", 1, 2**31)):
            if getattr(self, name) is not None:
                _within(name, getattr(self, name), low, high)
        if self.threads is not None:
            _within("threads", self.threads, 1, 1024)
        parse_build_memory(self.memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParams:
    """How a search trades recall for work."""

    nprobe: int = 64
    """Centroids probed for each query token."""
    candidates: int = 512
    """At most this many documents are refined, or 2 k where that is more; fewer where the top k is settled earlier. Where
    fewer than k documents meet a probed centroid, with all centroids probed, the others are refined too."""
    margin: float = 2.5
    """A candidate is given up when it would have to beat its estimate by this many standard deviations more than the
    candidates refined so far do on average; infinity refines them all."""
    exact: bool | None = None
    """Score every document; None does so where the index is so small that it is faster."""

    def __post_init__(self) -> None:
        _within("nprobe", self.nprobe, 1, 2**20)
        _within("candidates", self.candidates, 1, 2**24)
        _not_negative("margin", self.margin)


def checked_k(k: object) -> int:
    """A number of hits.

    Raises:
        QueryError: it is no whole number, or less than 1.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise QueryError(f"k: expected a whole number of hits, at least 1, got {k!r}.")
    return k


def one_of(
    name: str, value: object, choices: tuple[Choice, ...], error: type[ColindexError] = ParameterError
) -> Choice:
    """A value that has to be one of some.

    >>> one_of("window", "document", ("document", "sentence"))
    'document'

    Raises:
        ColindexError: of the kind `error`, it is none of those.
    """
    for choice in choices:
        if value == choice and not isinstance(value, bool):
            return choice
    *others, last = map(repr, choices)
    raise error(f"{name}: expected {', '.join(others)} or {last}, got {value!r}.")


def _within(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ParameterError(f"{name}: expected a whole number from {low:,} to {high:,}, got {value!r}.")


def _not_negative(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:  # NaN is not
        raise ParameterError(f"{name}: expected a number, 0 or more, got {value!r}.")
