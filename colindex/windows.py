"""Windows: which parts of a document does the encoder see alone?

A token's vector speaks of all that the model saw around it. So the window decides what a vector is about:

document  the whole content is one window, cut at the model's length. Each vector speaks of the whole document.
sentence  the title is a window, and so is each sentence of the text (`colindex.sentences`). Vectors speak of their sentence,
          which ranks sentences better; no part of a long document is cut off, only a longer sentence is.

1. *Cut* each document into its windows; one without a sentence is a window as it stands, so that markers stay.
2. *Encode* the windows of all documents as texts of their own.
3. *Join* the tokens of each document's windows, in the order of the text, and count their spans from the document's beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from colindex.params import Window
from colindex.sentences import sentences
from colindex.types import Document

__all__ = ["Cut", "cut", "moved"]

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Cut:
    """The windows of some documents, one after the other."""

    texts: tuple[str, ...]
    """Each window's text."""
    starts: tuple[int, ...]
    """Where it begins in its document, in characters of `Document.content`."""
    counts: tuple[int, ...]
    """How many windows each document has: one or more."""

    def by_document(self, parts: Sequence[Part]) -> list[Sequence[Part]]:
        """Step 3: what stands for each window, one run a document."""
        return [parts[begin:stop] for begin, stop in pairwise([0, *accumulate(self.counts)])]


def cut(documents: Iterable[Document], window: Window) -> Cut:
    """Step 1."""
    texts, starts, counts = [], [], []
    for document in documents:
        whole = [(0, len(document.content))]
        spans = whole if window == "document" else sentences(document) or whole
        texts += [document.content[start:stop] for start, stop in spans]
        starts += [start for start, _ in spans]
        counts.append(len(spans))
    return Cut(tuple(texts), tuple(starts), tuple(counts))


def moved(spans: NDArray[np.int32], start: int) -> NDArray[np.int32]:
    """Step 3: spans in a window, int32 [tokens, 2], as those in its document; (0, 0) stays."""
    return np.where(spans[:, 1:] > spans[:, :1], spans + np.int32(start), spans)
