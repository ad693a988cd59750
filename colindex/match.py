"""What a match is made of: which query token met which document token, and what each adds to the score.

score = sum over query tokens of the maximum similarity with any stored vector          (MaxSim)

A *stored vector* stands for one source token of the document, or for several where tokens were pooled. Source tokens carry
the vocabulary ids and the character spans; stored vectors carry the similarities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from colindex.errors import QueryError
from colindex.sentences import sentences
from colindex.spans import Span, checked_spans, rank_spans
from colindex.types import Document

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from colindex.views.comparison import Comparison

__all__ = ["Contribution", "Match"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one query token adds to a document's score."""

    query_token: int
    """Its position in the query."""
    stored: int
    """The stored vector that it is most similar to; the lowest among equals."""
    score: float
    """That similarity."""
    share: float
    """Of the document's score; 0 where that is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Why a document got its score for a query."""

    id: str
    """External id of the document."""
    score: float
    """The score that a search gives: from the vectors as they are stored."""
    query: str | None
    """The query's text; None where it came as vectors."""
    query_tokens: tuple[str, ...]
    """Text of each query token; `#0`, `#1`, ... where it came as vectors."""
    document: Document
    """The stored document; its text is empty in an index of vectors."""
    similarities: NDArray[np.float32]
    """Of the stored vectors: float32 [query tokens, stored vectors]."""
    exact: NDArray[np.float32] | None
    """The same before quantization, where the encoder is at hand; same shape. What the two differ by is quantization's part,
    and float noise of the encoder, which a build runs on other batches."""
    stored: NDArray[np.int32]
    """The stored vector that each source token went into, int32 [source tokens]; without pooling 0, 1, 2, ..."""
    token_ids: NDArray[np.int32] | None
    """Vocabulary ids of the source tokens, int32 [source tokens]; None where no tokenizer made them."""
    spans: NDArray[np.int32] | None
    """Character offsets of the source tokens in `document.content`, int32 [source tokens, 2]; None without a text.

    (0, 0) where the text does not hold the token, such as a marker."""
    names: tuple[str, ...] | None = None
    """What the vocabulary calls each source token, such as `[CLS]`; None without the encoder."""

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """What each query token adds, in the order of the query; empty where the document has no stored vector."""
        if not self.similarities.shape[1]:
            return ()
        best = self.similarities.argmax(axis=1)
        scores = self.similarities.max(axis=1)
        total = float(scores.sum())
        return tuple(
            Contribution(token, stored, score, score / total if total else 0.0)
            for token, (stored, score) in enumerate(zip(best.tolist(), scores.tolist(), strict=True))
        )

    @property
    def exact_score(self) -> float | None:
        """The score before quantization; None without the encoder."""
        if self.exact is None:
            return None
        return float(self.exact.max(axis=1).sum()) if self.exact.shape[1] else -np.inf

    def ranked_spans(self, spans: Sequence[tuple[int, int]] | None = None) -> list[Span]:
        """Parts of the document by how well they answer the query, best first (`colindex.spans`).

        Args:
            spans: (start, stop) of each part, in characters of `document.content`; None takes the title and the sentences.

        Raises:
            QueryError: a span is no part of the text, or the index does not know where its tokens stand.
        """
        if self.spans is None:
            raise QueryError(f"spans of {self.id!r}: the index does not know where in a text its tokens stand.")
        within = sentences(self.document) if spans is None else checked_spans(spans, len(self.document.content))
        return rank_spans(self.similarities, self.stored, self.spans, within)

    def sources(self, stored: int) -> NDArray[np.int64]:
        """The source tokens that a stored vector stands for, rising, int64."""
        return np.flatnonzero(self.stored == stored)

    def texts(self, stored: int) -> tuple[str, ...]:
        """The text of each of those tokens: its characters in the document, else its name, else nothing."""
        return tuple(self._text(token) for token in self.sources(stored).tolist())

    def _text(self, token: int) -> str:
        start, stop = (0, 0) if self.spans is None else self.spans[token].tolist()
        if stop > start:
            return self.document.content[start:stop]
        return "" if self.names is None else self.names[token]

    def compare(self, other: Match, names: tuple[str, str] | None = None) -> Comparison:
        """This match beside another of the same query: another document, or the same one in another index.

        Raises:
            ParameterError: the other is a match of another query.
        """
        from colindex.views.comparison import compare

        return compare(self, other, names)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON holds; `colindex.views.data` describes them."""
        from colindex.views.data import match_data

        return match_data(self)

    def to_html(self, path: str | Path) -> None:
        """Write a page that needs nothing else: the highlighted document, the contributions and a heatmap."""
        from colindex.views.html import match_page

        Path(path).write_bytes(match_page(self).encode())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a heatmap, query tokens x the document tokens that matter, on `ax` or a new figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        from colindex.views.plot import heatmap

        return heatmap(self, ax)

    def _repr_html_(self) -> str:
        from colindex.views.html import match_fragment

        return match_fragment(self)
