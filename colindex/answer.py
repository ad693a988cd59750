"""Queries' hits, from one open generation.

1. *Search* the documents that may be returned: every one of them, or candidates; for sentences, more documents than hits are
   wanted.
2. *Rank* those by their best sentence, where sentences were asked for.
3. *Look up* the ids.

Several queries take turns among threads; an exact search reads the records once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from colindex.generation import Generation
from colindex.params import SearchParams, Unit, checked_k
from colindex.passages import checked_unit, documents_to_split, rank_passages
from colindex.search import search, search_each, search_exact
from colindex.selection import Selection
from colindex.tally import Tally
from colindex.types import Hit

__all__ = ["answer", "answer_each"]


def answer(
    generation: Generation,
    query: NDArray[np.floating],
    k: int,
    params: SearchParams,
    selection: Selection,
    unit: Unit,
) -> tuple[list[Hit], Tally]:
    """The k best documents of a selection for query vectors, float [query tokens, input_dim], and what was done for them.

    Raises:
        As `Index.search_vectors`.
    """
    snapshot, k, projected = generation.snapshot, checked_k(k), generation.project(query)
    by_sentence = checked_unit(unit) == "sentence"
    wanted = documents_to_split(k) if by_sentence else k
    if generation.is_exact(params):
        (ranked,), tally = search_exact(snapshot, [projected], wanted, selection)
    else:
        ranked, tally = search(snapshot, projected, wanted, params, selection)
    if by_sentence:
        return generation.hits(*rank_passages(snapshot, ranked, projected, k)), tally
    return generation.hits(ranked), tally


def answer_each(
    generation: Generation,
    queries: Sequence[NDArray[np.floating]],
    k: int,
    params: SearchParams,
    selection: Selection,
    threads: int,
) -> list[list[Hit]]:
    """`answer` for several queries, on so many threads.

    Raises:
        As `Index.search_vectors`.
    """
    snapshot, k = generation.snapshot, checked_k(k)
    if generation.is_exact(params):
        projected = [generation.project(query) for query in queries]
        return list(map(generation.hits, search_exact(snapshot, projected, k, selection, threads)[0]))
    answers: list[list[Hit]] = [[] for _ in queries]

    def answer_some(numbers: range) -> None:
        asked = (generation.project(queries[number]) for number in numbers)
        for number, ranked in zip(numbers, search_each(snapshot, asked, k, params, selection), strict=True):
            answers[number] = generation.hits(ranked)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(answer_some, [range(first, len(queries), threads) for first in range(threads)]):
            pass  # but an error of a thread is raised
    return answers
