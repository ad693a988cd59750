"""Matches made by hand: of any text, with one token a word or sign, pooled or not."""

from __future__ import annotations

import re

import numpy as np

from colindex import Document
from colindex.match import Match

HOSTILE = (
    '</div></style></script><script>alert(1)</script> <img src=x onerror="alert(1)"> "double" \'single\' `back` & &amp; &#0; '
    "<!-- comment ]]> {{ 7 * 7 }} {% raw %} http://example.org \u202eover\u202c \u2066isolated\u2069 "
    "a\x00b\x1bc\x7f\x85\ufdd0\ud800 "
    "CR\rLF\r\n\tTab \u05e9\u05dc\u05d5\u05dd \u4f60\u597d \U0001f600 e\u0301 $x_1$ [bold]rich[/bold] :smile:"
)


def made_match(
    text: str,
    query: str = "amber basin",
    *,
    title: str = "",
    pool: int = 1,
    window: int | None = None,
    exact: bool = True,
    id_: str = "doc-1",
    seed: int = 0,
) -> Match:
    """Each word and sign of the first `window` is a token; `pool` neighbours share a vector; similarities are random."""
    document = Document(id_, text, title)
    spans = [found.span() for found in re.finditer(r"\w+|[^\w\s]", document.content)][:window]
    tokens = tuple(query.split())
    stored = np.arange(len(spans), dtype=np.int32) // pool
    rng = np.random.default_rng(seed)
    similarities = rng.uniform(-0.2, 1, (len(tokens), int(stored.max(initial=-1)) + 1)).astype(np.float32)
    return Match(
        id=id_,
        score=float(similarities.max(axis=1).sum()) if len(spans) else -np.inf,
        query=query,
        query_tokens=tokens,
        document=document,
        similarities=similarities,
        exact=similarities + rng.normal(0, 0.05, similarities.shape).astype(np.float32) if exact else None,
        stored=stored,
        token_ids=np.arange(len(spans), dtype=np.int32),
        spans=np.array(spans, np.int32).reshape(-1, 2),
    )


def vector_match(queries: int = 3, vectors: int = 5, *, id_: str = "v-1") -> Match:
    """Of vectors alone: no text, no spans."""
    similarities = np.random.default_rng(1).uniform(0, 1, (queries, vectors)).astype(np.float32)
    return Match(
        id=id_,
        score=float(similarities.max(axis=1).sum()),
        query=None,
        query_tokens=tuple(f"#{position}" for position in range(queries)),
        document=Document(id_, ""),
        similarities=similarities,
        exact=None,
        stored=np.arange(vectors, dtype=np.int32),
        token_ids=None,
        spans=None,
    )
