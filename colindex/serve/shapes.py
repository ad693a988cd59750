"""Shapes: what goes into the routes and what comes out of them, for validation and for OpenAPI.

1. *Forms* go in. What they bound, such as lengths, bounds the work of a request; settings of a search are checked by
   `SearchParams` too, with the library's messages.
2. *Answers* come out. They describe what `answers` makes; nothing is converted by them.

This is the one module that imports pydantic.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from colindex.params import SearchParams, Unit
from colindex.storage.entries import MAX_ID_BYTES

__all__ = [
    "Counters",
    "ExplainForm",
    "Explained",
    "Found",
    "Health",
    "IndexFacts",
    "InspectForm",
    "MatchData",
    "Problem",
    "SearchForm",
]

_DEFAULTS = SearchParams()
QUERY_CHARACTERS, WHERE_CHARACTERS, IDS = 8_192, 65_536, 10_000

Query = Annotated[
    str, Field(min_length=1, max_length=QUERY_CHARACTERS, pattern=r"\S", description="Any text but blanks.")
]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES, description="External id of a document.")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Settings(_Form):
    """How to search."""

    query: Query
    k: int = Field(10, ge=1, le=1_000, description="How many hits.")
    where: str | None = Field(
        None,
        max_length=WHERE_CHARACTERS,
        description="Only documents that meet this condition on metadata, an SQL expression such as `year >= 2020`.",
    )
    ids: list[Id] | None = Field(None, max_length=IDS, description="Only these documents.")
    nprobe: int = Field(_DEFAULTS.nprobe, ge=1, le=2**20, description="Centroids probed for each query token.")
    candidates: int = Field(
        _DEFAULTS.candidates, ge=1, le=2**24, description="At most this many documents are scored, or 2 k."
    )
    margin: float = Field(
        _DEFAULTS.margin,
        ge=0,
        allow_inf_nan=False,
        description="Standard deviations by which a document may beat its estimate.",
    )
    exact: bool | None = Field(None, description="Score every document, or never; null does so where that is faster.")

    @property
    def params(self) -> SearchParams:
        """As the library takes them."""
        return SearchParams(nprobe=self.nprobe, candidates=self.candidates, margin=self.margin, exact=self.exact)


class SearchForm(_Settings):
    """A search."""

    unit: Unit = Field("document", description="What to rank documents by.")


class InspectForm(_Form):
    """One document, and the query that it is looked at for."""

    query: Query
    id: Id
    exact: bool = Field(True, description="Also encode the document again, for the similarities before quantization.")


class ExplainForm(_Settings):
    """One document, and the search that did or did not return it."""

    id: Id


class Piece(BaseModel):
    """Some characters of a snippet."""

    text: str
    best: bool = Field(description="Inside the best sentence.")
    match: bool = Field(description="A word, or part of one, that some query token matches best, or nearly so.")


class HitRow(BaseModel):
    """One ranked document."""

    rank: int
    id: str
    score: float | None = Field(description="MaxSim; null for a document without a vector, or without a sentence.")
    title: str
    title_is_best: bool
    span: tuple[int, int] | None = Field(description="The best sentence, in characters of title, blank and text.")
    snippet: list[Piece]
    metadata: dict[str, Any]


class Counters(BaseModel):
    """What a search did: fields of `SearchStats`."""

    postings: int
    gathered: int
    candidates: int
    bytes_read: int
    reads: int
    cache_hits: int
    cache_misses: int
    prefetch_hits: int


class Found(BaseModel):
    """Hits, best first, and what finding them took."""

    hits: list[HitRow]
    generation: int
    seconds: dict[str, float] = Field(description="Of each stage.")
    total_seconds: float
    counters: Counters


class MatchData(BaseModel):
    """Why a document gets its score: which query token met which of its tokens."""

    id: str
    score: float | None
    exact_score: float | None
    query: str | None
    query_tokens: list[str]
    document: dict[str, Any]
    content: str
    tokens: list[dict[str, Any]]
    contributions: list[dict[str, Any]]
    similarities: list[list[float]]
    exact: list[list[float]] | None


class Explained(BaseModel):
    """What became of a document in a search."""

    id: str
    kind: str
    text: str
    k: int
    rank: int | None
    score: float | None
    kth: float | None
    reach: list[dict[str, Any]]
    would_refine: dict[str, Any] | None
    advice: dict[str, Any] | None = Field(description="Settings that bring it in; null where none do.")


class IndexFacts(BaseModel):
    """The index in figures."""

    model_config = ConfigDict(extra="allow")

    name: str
    version: str
    encoder: str | None
    columns: list[str] = Field(description="What a condition may mention.")
    documents: int
    generation: int
    budget: int
    resident: dict[str, int]
    resident_bytes: int
    cache: dict[str, int]


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"]
    documents: int
    generation: int


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
