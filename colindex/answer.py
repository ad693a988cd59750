"""Queries' hits, from one open generation.

1. *Search* the documents that may be returned: every one of them, or candidates; for sentences, more documents than hits are
   wanted.
2. *Rank* those by their best sentence, where sentences were asked for.
3. *Look up* the ids.

Of several queries each thread takes the next one that waits; an exact search reads the records once for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

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
    waiting = iter(range(len(queries)))

    def answer_some() -> None:
        taken: deque[int] = deque()

        def asked() -> Iterator[NDArray[np.float32]]:
            for number in waiting:
                taken.append(number)
                yield generation.project(queries[number])

        for ranked in search_each(snapshot, asked(), k, params, selection):
            answers[taken.popleft()] = generation.hits(ranked)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(answer_some) for _ in range(threads)]
        try:
            for thread in as_completed(running):
                thread.result()
        finally:
            deque(waiting, maxlen=0)  # after an error, or Ctrl-C, the others take no more
    return answers
