"""Inspection: a query and one document in, their `Match` out.

1. *Ask*: encode the query's text and name its tokens: by the characters that they cover, else, as of masks that the encoder
   adds, by the vocabulary. A query of vectors has numbers for names.
2. *Fetch* the document's records, as a search does.
3. *Multiply* each query token with each stored vector, as refinement does (`similarities` of `colindex.kernels`): the maxima
   of the rows are what the search adds up. The score itself is the search's, to the bit; the maxima add up to it but for
   the rounding of a float32 sum, some 1e-7 of it.
4. *Trace* each stored vector to its source tokens, and these to the text.
5. *Compare*: where the encoder is at hand, encode the document again, merge the tokens that the build merged, project, and
   multiply in float32. That is what was coded: the difference is what quantization did. Without the encoder, or if it
   makes another number of tokens of the text than are stored, there is nothing to compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from colindex.errors import DocumentNotFoundError
from colindex.fetched import fetch
from colindex.generation import Generation
from colindex.match import Match
from colindex.pooling import merge
from colindex.search import Snapshot
from colindex.spool import decode_document
from colindex.storage.segments import Inspection
from colindex.types import Document, TextEncoder

__all__ = ["Asked", "Vocabulary", "ask", "ask_vectors", "inspect"]


@runtime_checkable
class Vocabulary(Protocol):
    """An encoder that can name its tokens; `colindex.Encoder` does."""

    def vocabulary(self, token_ids: NDArray[np.int32]) -> tuple[str, ...]:
        """What the tokenizer calls some vocabulary ids, int32 [n]."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, and what to call its tokens."""

    text: str | None
    """None where it came as vectors."""
    tokens: tuple[str, ...]
    """A name for each token."""
    vectors: NDArray[np.floating]
    """As the encoder made them or the user handed them in, float [query tokens, input_dim]."""


def ask(text: str, encoder: TextEncoder) -> Asked:
    """Step 1 for a text."""
    batch = encoder.encode_queries([text])
    names = _names(batch.token_ids, encoder)
    tokens = []
    for position in range(len(batch.vectors)):
        start, stop = (0, 0) if batch.spans is None else batch.spans[position].tolist()
        unplaced = f"#{position}" if names is None else names[position]
        tokens.append(text[start:stop] if stop > start else unplaced)
    return Asked(text, tuple(tokens), batch.vectors)


def ask_vectors(vectors: NDArray[np.floating]) -> Asked:
    """Step 1 for vectors, float [query tokens, input_dim]."""
    return Asked(None, tuple(f"#{position}" for position in range(len(vectors))), vectors)


def inspect(
    generation: Generation, id: str, asked: Asked, query: NDArray[np.float32], encoder: TextEncoder | None
) -> Match:
    """Steps 2 to 5 for one document.

    Args:
        generation: the generation that is open.
        id: external id of the document.
        asked: the query.
        query: its vectors, projected, float32 [query tokens, dim].
        encoder: what made the index's vectors; None leaves step 5 out.

    Raises:
        DocumentNotFoundError: the generation does not hold it.
    """
    snapshot, document = generation.snapshot, generation.number_of(id)
    if document is None:
        raise DocumentNotFoundError(
            f"{generation.path}: expected the id of a document to inspect, got {id!r}, which the index does not hold; "
            "a search (`colindex search`) shows the ids of what it finds."
        )
    if generation.manifest.encoder is None:
        encoder = None  # vectors came without a text
    segment, number = snapshot.locate(document)
    stored = decode_document(snapshot.segments[segment].document(number))
    fetched = fetch(snapshot, np.array([document]))
    similarities = fetched.similarities(query, 0)
    trace = _trace(snapshot.segments[segment].inspection(number), similarities.shape[1])
    return Match(
        id=stored.id,
        score=float(fetched.scores(query)[0]),
        query=asked.text,
        query_tokens=asked.tokens,
        document=stored,
        similarities=similarities,
        exact=None if encoder is None else _exact(snapshot, stored, trace.pool_map, query, encoder),
        stored=trace.pool_map,
        token_ids=trace.token_ids,
        spans=trace.spans if stored.content else None,
        names=None if encoder is None else _names(trace.token_ids, encoder),
    )


def _trace(found: Inspection | None, stored: int) -> Inspection:
    """Step 4; without columns each stored vector stands for itself."""
    return Inspection(None, None, np.arange(stored, dtype=np.int32)) if found is None else found


def _exact(
    snapshot: Snapshot, document: Document, stored: NDArray[np.int32], query: NDArray[np.float32], encoder: TextEncoder
) -> NDArray[np.float32] | None:
    """Step 5: float32 [query tokens, stored vectors]."""
    vectors = encoder.encode_documents([document]).vectors
    if len(vectors) != len(stored):
        return None
    merged = len(stored) > 0 and int(stored.max()) + 1 < len(stored)
    vectors = merge(vectors.astype(np.float32), stored) if merged else vectors
    return np.asarray(query @ snapshot.codebook.project(vectors).T)


def _names(token_ids: NDArray[np.int32] | None, encoder: TextEncoder) -> tuple[str, ...] | None:
    if token_ids is None or not isinstance(encoder, Vocabulary):
        return None
    return encoder.vocabulary(token_ids)
