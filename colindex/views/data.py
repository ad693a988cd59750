"""A match, and an explanation, as plain values that JSON holds. Every number is finite.

A match:

{"id", "score", "exact_score",            null where there is no stored vector; exact_score also without the encoder
 "query", "query_tokens": [text, ...],    query: null where it came as vectors
 "document": {"id", "title", "text", "metadata"},
 "content": text,                         what the encoder saw and spans point into
 "tokens": [{"text", "span", "token_id", "stored"}, ...],
                                          the source tokens; span [start, stop], null where the text does not hold it;
                                          stored: the stored vector that it went into
 "contributions": [{"query_token", "token", "stored", "tokens", "texts", "score", "share", "exact"}, ...],
                                          one a query token; query_token and tokens: positions in query_tokens and tokens;
                                          exact: null, or {"stored", "score", "difference"} of the maximum before quantization
 "similarities": [[number, ...], ...],    a row for each query token, a column for each stored vector
 "exact": [[number, ...], ...]}           the same before quantization, or null

An explanation, as `colindex.explain` describes its parts:

{"id", "kind", "text", "k",
 "rank", "score", "kth",                  null where there is none
 "reach": [{"query_token", "text", "similarity", "nprobe"}, ...],
 "would_refine": settings, "advice": settings}
                                          null, or {"nprobe", "candidates", "margin", "exact"} as a search takes them
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from typing import Any

from colindex.explain import Explanation
from colindex.match import Match
from colindex.params import SearchParams
from colindex.views.pieces import contents
from colindex.views.rows import Row, rows

__all__ = ["explanation_data", "finite", "match_data"]


def match_data(match: Match) -> dict[str, Any]:
    """The match in the form above."""
    document = match.document
    return {
        "id": match.id,
        "score": finite(match.score),
        "exact_score": finite(match.exact_score),
        "query": match.query,
        "query_tokens": list(match.query_tokens),
        "document": {
            "id": document.id,
            "title": document.title,
            "text": document.text,
            "metadata": dict(document.metadata),
        },
        "content": document.content,
        "tokens": _tokens(match),
        "contributions": [_contribution(match, row) for row in rows(match)],
        "similarities": match.similarities.tolist(),
        "exact": None if match.exact is None else match.exact.tolist(),
    }


def explanation_data(found: Explanation) -> dict[str, Any]:
    """The explanation in the form above."""
    return {
        "id": found.id,
        "kind": found.kind,
        "text": found.text,
        "k": found.k,
        "rank": found.rank,
        "score": finite(found.score),
        "kth": finite(found.kth),
        "reach": [asdict(one) for one in found.reach],
        "would_refine": _settings(found.would_refine),
        "advice": _settings(found.advice),
    }


def _settings(params: SearchParams | None) -> dict[str, Any] | None:
    """Settings: JSON has no infinite margin, so that one is the largest number there is."""
    return None if params is None else {**asdict(params), "margin": min(params.margin, sys.float_info.max)}


def finite(value: float | None) -> float | None:
    """A number, or None: JSON has no infinity, which is the score of a document without a vector."""
    return value if value is not None and math.isfinite(value) else None


def _tokens(match: Match) -> list[dict[str, Any]]:
    texts: list[str] = [""] * len(match.stored)
    for stored in range(match.similarities.shape[1]):
        for source, text in zip(match.sources(stored).tolist(), match.texts(stored), strict=True):
            texts[source] = text
    spans = [None] * len(texts) if match.spans is None else match.spans.tolist()
    ids = [None] * len(texts) if match.token_ids is None else match.token_ids.tolist()
    return [
        {
            "text": text,
            "span": span if span is not None and span[1] > span[0] else None,
            "token_id": token_id,
            "stored": stored,
        }
        for text, span, token_id, stored in zip(texts, spans, ids, match.stored.tolist(), strict=True)
    ]


def _contribution(match: Match, row: Row) -> dict[str, Any]:
    return {
        "query_token": row.part.query_token,
        "token": row.token,
        "stored": row.part.stored,
        "tokens": match.sources(row.part.stored).tolist(),
        "texts": list(contents(match, row.part.stored)),
        "score": row.part.score,
        "share": row.part.share,
        "exact": None if row.exact is None else asdict(row.exact),
    }
