"""The values that pass between the stages.

Ragged data is always a flat array and offsets: document `i` owns rows `offsets[i]:offsets[i + 1]`. Invariants are
checked once, when a value is made; nothing downstream checks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from colindex.errors import VectorError

__all__ = [
    "CodedBatch",
    "Document",
    "DocumentEncoder",
    "Hit",
    "PooledBatch",
    "SearchStats",
    "SourceTokens",
    "TextEncoder",
    "TokenBatch",
]

MIN_DIM, MAX_DIM = 8, 1024
_PIECE = 1 << 18  # values looked at together


@dataclass(frozen=True, slots=True)
class Document:
    """One document as its user knows it."""

    id: str
    """External id: any text of 1 to 511 UTF-8 bytes, stable for ever."""
    text: str
    """What is encoded, after the title."""
    title: str = ""
    """Encoded before the text, separated by one space."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Any JSON object; comes back with hits."""

    @property
    def content(self) -> str:
        """The text that the encoder sees; character spans point into it."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Token vectors of some documents, before pooling and coding.

    >>> batch = TokenBatch.from_arrays(["a", "b"], [np.ones((2, 8)), np.ones((1, 8))])
    >>> batch.offsets.tolist()
    [0, 2, 3]
    """

    ids: tuple[str, ...]
    """External ids [documents]."""
    vectors: NDArray[Any]
    """float32 or float16 [tokens, dim]; every value finite."""
    offsets: NDArray[np.int64]
    """int64 [documents + 1], from 0 to tokens, never falling."""
    token_ids: NDArray[np.int32] | None = None
    """Vocabulary ids, int32 [tokens], where a tokenizer made them."""
    spans: NDArray[np.int32] | None = None
    """Character offsets in `Document.content`, int32 [tokens, 2]; (0, 0) where a token has no text."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "ids", tuple(self.ids))
        set_(self, "vectors", _checked_vectors(self.vectors))
        set_(self, "offsets", _checked_offsets(self.offsets, len(self.ids), len(self.vectors)))
        if self.token_ids is not None:
            set_(self, "token_ids", _per_token("token_ids", self.token_ids, (len(self.vectors),)))
        if self.spans is not None:
            set_(self, "spans", _per_token("spans", self.spans, (len(self.vectors), 2)))

    @classmethod
    def from_arrays(cls, ids: Iterable[str], arrays: Sequence[Any]) -> TokenBatch:
        """Make a batch from one 2-D array or tensor a document, as `encode_document` returns them.

        Raises:
            VectorError: the arrays disagree in dim, are not 2-D, are not finite, or their number is not that of the ids.
        """
        parts = [_as_array(position, array) for position, array in enumerate(arrays)]
        dims = {part.shape[1] for part in parts if part.shape[0]} or {part.shape[1] for part in parts}
        if len(dims) != 1:
            raise VectorError(
                f"TokenBatch.from_arrays: expected arrays of one dim, got dims {sorted(dims) or 'none (no arrays)'}; "
                "encode all documents with one model."
            )
        dim = dims.pop()
        vectors = np.concatenate([part.reshape(-1, dim) if part.size else part[:0].reshape(0, dim) for part in parts])
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return cls(ids=tuple(ids), vectors=vectors, offsets=offsets)

    @property
    def dim(self) -> int:
        """Values in each vector."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.ids)


class DocumentEncoder(Protocol):
    """What a build needs of an encoder."""

    @property
    def name(self) -> str:
        """What it is loaded by; kept in the index for people, never compared."""

    @property
    def dim(self) -> int:
        """Values in each vector."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Everything that changes the vectors, a JSON object: kept in the index and compared when it is opened."""

    @property
    def max_document_tokens(self) -> int:
        """Longer documents, or longer sentences where the encoder sees those alone, are cut to this."""

    @property
    def pools_tokens(self) -> bool:
        """Whether the model merges document tokens itself; a build then must not do it again."""

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        """Token vectors of some documents.

        An encoder may take `progress` too, to be called after each batch with the number of documents encoded so far.
        """


class TextEncoder(DocumentEncoder, Protocol):
    """What an index needs of an encoder; `colindex.Encoder` is one, and so is anything else with these."""

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        """Token vectors of some queries, in their order."""

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """Token vectors of one query, float32 [tokens, dim]."""


@dataclass(frozen=True, slots=True)
class SourceTokens:
    """The tokens that pooling merged: what inspection needs to go from a stored vector back to the text."""

    offsets: NDArray[np.int64]
    """int64 [documents + 1], over source tokens."""
    stored: NDArray[np.int32]
    """For each source token the stored vector, within its document, that stands for it: int32 [source tokens]."""
    token_ids: NDArray[np.int32] | None = None
    """Vocabulary ids, int32 [source tokens]."""
    spans: NDArray[np.int32] | None = None
    """Character offsets, int32 [source tokens, 2]."""


@dataclass(frozen=True, slots=True)
class PooledBatch:
    """Documents after pooling, before coding."""

    tokens: TokenBatch
    """The vectors to store; the token id and span of a merged vector are those of its first source token."""
    source: SourceTokens | None
    """None where nothing was merged: each token stands for itself."""


@dataclass(frozen=True, slots=True)
class CodedBatch:
    """The documents of a `TokenBatch` after pooling and coding: what a segment stores."""

    records: NDArray[np.uint8]
    """uint8 [stored vectors, record bytes]: centroid id, length, packed residual (docs/FORMAT.md)."""
    centroids: NDArray[np.uint32]
    """The centroid of each stored vector, uint32 [stored vectors]."""
    offsets: NDArray[np.int64]
    """int64 [documents + 1]."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked document."""

    id: str
    """External id."""
    score: float
    """MaxSim: the sum over query tokens of the maximum dot product with any stored vector."""
    source: Any = field(repr=False, compare=False, default=None)
    """Reads the document when it is asked for; None where there is nothing to read."""
    span: tuple[int, int] | None = None
    """Its best sentence, in characters of `document.content`, where sentences were searched for; its score is then the
    sentence's."""

    @property
    def document(self) -> Document:
        """The stored document, read from disk at this moment."""
        document: Document = self.source()
        return document

    @property
    def text(self) -> str:
        """The text of the span; the whole document's, with its title, without one."""
        content = self.document.content
        return content if self.span is None else content[slice(*self.span)]


@dataclass(frozen=True, slots=True)
class SearchStats:
    """What one search did, stage by stage."""

    seconds: Mapping[str, float]
    """Wall-clock seconds of each stage: encode, probe, gather, fetch, refine."""
    postings: int = 0
    """Posting entries walked."""
    gathered: int = 0
    """Documents that met at least one query token."""
    candidates: int = 0
    """Documents whose records were scored."""
    bytes_read: int = 0
    """Bytes read from disk."""
    reads: int = 0
    """Read calls issued."""
    cache_hits: int = 0
    """Blocks found in the cache."""
    cache_misses: int = 0
    """Blocks read from disk."""
    prefetch_hits: int = 0
    """Missed blocks whose read was issued before refinement asked for them."""


def _as_array(position: int, array: Any) -> NDArray[Any]:
    """One document's vectors as a NumPy array, whatever library made them."""
    if hasattr(array, "detach"):  # a torch tensor, possibly on a device and possibly bfloat16
        array = array.detach().cpu()
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array
    result = np.asarray(array)
    if result.ndim != 2:
        raise VectorError(
            f"document {position} of the batch: expected a 2-D array [tokens, dim], got shape {result.shape}; "
            "a document with no tokens is an array of shape (0, dim)."
        )
    return result


def _checked_vectors(vectors: Any) -> NDArray[Any]:
    array = np.asarray(vectors)
    if array.dtype.kind != "f":
        raise VectorError(
            f"vectors: expected float32 or float16, got {array.dtype}; convert them with .astype(np.float32)."
        )
    if array.dtype not in (np.float16, np.float32):
        array = array.astype(np.float32)
    if array.ndim != 2 or not MIN_DIM <= array.shape[1] <= MAX_DIM:
        raise VectorError(f"vectors: expected shape [tokens, dim] with dim {MIN_DIM} to {MAX_DIM}, got {array.shape}.")
    if not _all_finite(array):
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise VectorError(f"vectors: row {row} holds a NaN or an infinite value; every value has to be finite.")
    return np.ascontiguousarray(array)


def _all_finite(array: NDArray[Any]) -> bool:
    """Whether no value is NaN or infinite, looked at piece by piece so that nothing leaves the cache.

    NumPy's own test takes five times longer for float16, which it has to widen.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    pieces = (flat[start : start + _PIECE] for start in range(0, len(flat), _PIECE))
    if array.dtype == np.float16:
        infinity = 0x7C00
        return all(int((piece.view(np.uint16) & np.uint16(0x7FFF)).max()) < infinity for piece in pieces)
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


def _checked_offsets(offsets: Any, documents: int, tokens: int) -> NDArray[np.int64]:
    array = np.asarray(offsets)
    if array.dtype.kind not in "iu" or array.shape != (documents + 1,):
        raise VectorError(
            f"offsets: expected {documents + 1} integers for {documents} ids, got {array.dtype} {array.shape}."
        )
    array = np.ascontiguousarray(array, dtype=np.int64)
    if array[0] != 0 or array[-1] != tokens or (np.diff(array) < 0).any():
        raise VectorError(
            f"offsets: expected to rise from 0 to {tokens} (the number of vectors), got {array[0]} to {array[-1]}"
            f"{', falling in between' if (np.diff(array) < 0).any() else ''}."
        )
    return array


def _per_token(name: str, values: Any, shape: tuple[int, ...]) -> NDArray[np.int32]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.shape != shape:
        raise VectorError(f"{name}: expected integers of shape {shape}, got {array.dtype} {array.shape}.")
    return np.ascontiguousarray(array, dtype=np.int32)
