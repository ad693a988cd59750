"""Sentences: where those of a document lie.

1. The title is a span of its own: it is no part of the text's first sentence.
2. The text is cut by `sentencex` (Wikimedia's rules for sentences in some 300 languages: abbreviations, brackets, quotes);
   paragraphs end sentences.
3. White space around a sentence is left out, and so is a sentence of nothing else.

Spans are in characters of `Document.content`, as those of tokens are. This is the one module that imports sentencex.
"""

from __future__ import annotations

import re

from colindex.types import Document

__all__ = ["sentences"]

_LANGUAGE = "en"
"""Whose abbreviations are known; full stops of other scripts end sentences all the same."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a UTF-16 pair: Rust has no such characters."""


def sentences(document: Document) -> list[tuple[int, int]]:
    """The title, where there is one, and each sentence of the text: (start, stop) in `document.content`, rising.

    >>> document = Document("a", "Dr. Ada wrote it. It ran!", title="Notes")
    >>> [document.content[start:stop] for start, stop in sentences(document)]
    ['Notes', 'Dr. Ada wrote it.', 'It ran!']
    """
    from sentencex import get_sentence_boundaries

    content = document.content
    text = len(content) - len(document.text)
    boundaries = get_sentence_boundaries(_LANGUAGE, _LONE_SURROGATE.sub("\ufffd", document.text))
    found = [(text + boundary["start_index"], text + boundary["end_index"]) for boundary in boundaries]
    stripped = (_stripped(content, start, stop) for start, stop in [(0, text), *found])
    return [(start, stop) for start, stop in stripped if start < stop]


def _stripped(content: str, start: int, stop: int) -> tuple[int, int]:
    inner = content[start:stop]
    return stop - len(inner.lstrip()), start + len(inner.rstrip())
