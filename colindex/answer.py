"""One query's hits, from one open generation.

1. *Search* the documents that may be returned: every one of them, or candidates; for sentences, more documents than hits are
   wanted.
2. *Rank* those by their best sentence, where sentences were asked for.
3. *Look up* the ids.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.generation import Generation
from colindex.params import SearchParams, Unit, checked_k
from colindex.passages import checked_unit, documents_to_split, rank_passages
from colindex.search import Tally, search, search_exact
from colindex.selection import Selection
from colindex.types import Hit

__all__ = ["answer"]


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
