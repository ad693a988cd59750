"""Conditions: what a user may write to choose documents by their metadata, an SQL expression, made safe to put between brackets.

1. Split the text into tokens as SQLite does: words, names in quotes, texts, numbers, brackets, comments.
2. Refuse what could end the expression or begin another statement: `;`, a bracket without its partner, a quote or comment
   that never ends, parameters, NUL; and the names of the table and of its key, which are colindex's own.
3. Put the tokens together again without comments, and with names in `` `backticks` ``: SQLite takes an unknown name in
   "double quotes" for a text, but never one in backticks.
4. Note the names that the text mentions, and whether it asks what time it is: then its answer does not last.

Whether it is an expression at all, SQLite says (`colindex.storage.metadata`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["KEY", "TABLE", "Condition", "ConditionError", "folded"]

TABLE, KEY = "_documents", "_document"
"""The table of metadata, and its column of document numbers."""
MAX_CHARACTERS = 65_536
"""Of one condition: those that were evaluated last are kept."""

_TOKEN = re.compile(
    r"""
    (?P<blank>   [ \t\n\f\r\ufeff]+ | --[^\n]* | /\*.*?\*/ )
  | (?P<text>    '(?:[^']|'')*' )
  | (?P<name>    "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
  | (?P<word>    [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]* )
  | (?P<number>  0[xX][0-9a-fA-F]+ | (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
  | (?P<open>    \( )
  | (?P<close>   \) )
  | (?P<refused> [;?:@$\#\x00'"`\[] | /\* )
  | (?P<sign>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
_REFUSED = {
    ";": "it is one expression, without `;`",
    "\0": "it holds a NUL character",
    "'": "a text in 'quotes' never ends",
    '"': 'a name in "quotes" never ends',
    "`": "a name in `quotes` never ends",
    "[": "a name in [brackets] never ends",
    "/*": "a comment never ends",
}
_CLOCKS = {"date", "time", "datetime", "julianday", "strftime", "unixepoch", "timediff"}
_NOW = {"current_date", "current_time", "current_timestamp"}


class ConditionError(Exception):
    """Why a text is no condition; never leaves the package: whoever asked adds the text and the columns that there are."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A text that can stand between brackets of a larger statement, and stays there."""

    sql: str
    """The text without comments, its names in backticks."""
    names: frozenset[str]
    """Everything in it that may be the name of a column, folded."""
    lasts: bool
    """Whether the same documents meet it tomorrow."""

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Steps 1 to 4.

        Raises:
            ConditionError: the text is refused.
        """
        _check_characters(text)
        sql: list[str] = []
        names: set[str] = set()
        depth, lasts, before = 0, True, ""
        for kind, token in _tokens(text):
            if kind == "refused":
                raise ConditionError(_REFUSED.get(token, f"it has no parameters such as `{token}`"))
            depth += (kind == "open") - (kind == "close")
            if depth < 0:
                raise ConditionError("a `)` has no `(` before it")
            name = folded(_unquoted(token)) if kind in ("word", "name", "text") else ""
            if name in (TABLE, KEY):
                raise ConditionError(f"`{name}` is a name of colindex's own")
            if kind in ("word", "name"):
                names.add(name)
            lasts = lasts and name not in _NOW and not (kind == "open" and before in _CLOCKS)
            sql.append(" " if kind == "blank" else _backticked(_unquoted(token)) if kind == "name" else token)
            before = before if kind == "blank" else name
        if depth:
            raise ConditionError("a `(` has no `)` after it")
        return cls("".join(sql), frozenset(names), lasts)


def folded(name: str) -> str:
    """A name as SQLite compares names: the case of ASCII letters does not count."""
    return re.sub("[A-Z]+", lambda letters: letters[0].lower(), name)


def _check_characters(text: str) -> None:
    if not text.strip():
        raise ConditionError("it is empty")
    if len(text) > MAX_CHARACTERS:
        raise ConditionError(
            f"it has {len(text):,} characters, and {MAX_CHARACTERS:,} are the most; long lists of ids go into `ids`"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConditionError(f"it is no Unicode text ({error.reason})") from error


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each token, one after the other; every character belongs to one."""
    return ((str(match.lastgroup), match.group()) for match in _TOKEN.finditer(text))


def _unquoted(token: str) -> str:
    """What stands between the quotes, if there are any."""
    if token[0] == "[":
        return token[1:-1]
    return token[1:-1].replace(token[0] * 2, token[0]) if token[0] in "'\"`" else token


def _backticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
