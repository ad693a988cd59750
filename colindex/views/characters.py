"""Characters of documents and queries, made fit for showing: text is shown, and steers nothing.

1. In a block of text, characters that HTML cannot hold or that a terminal obeys are replaced one for one, so that spans
   stay true. Line feeds, tabs and carriage returns stay.
2. In one line, such as a cell of a table, blanks become single spaces, and what changes the direction of text is replaced
   too: there is no block that would end its effect.
3. On a terminal nothing is left but printable characters, single blanks and line feeds.
"""

from __future__ import annotations

import re

__all__ = ["block", "line", "screen"]

_MARK = "\N{REPLACEMENT CHARACTER}"
# Controls, halves of surrogate pairs, and code points that are no characters (U+FDD0 to U+FDEF, the last two of a plane).
_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_NO_CHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr((plane << 16) + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_UNSHOWABLE = re.compile(f"[{_CONTROLS}\ud800-\udfff{_NO_CHARACTERS}]")
_BLANKS = re.compile(r"\s+")
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def block(text: str) -> str:
    r"""Text of the same length that any page holds.

    >>> block("a\x00b\n")
    'a\ufffdb\n'
    """
    return _UNSHOWABLE.sub(_MARK, text)


def line(text: str) -> str:
    r"""Text for one line.

    >>> line("a\n b\x1b ")
    'a b\ufffd '
    """
    return _DIRECTIONS.sub(_MARK, block(_BLANKS.sub(" ", text)))


def screen(text: str) -> str:
    r"""Text for a terminal, with its line feeds.

    >>> screen("a\tb\n\x1b[31mc")
    'a b\n\ufffd[31mc'
    """
    return "".join(
        character if character.isprintable() or character == "\n" else " " if character.isspace() else _MARK
        for character in text
    )
