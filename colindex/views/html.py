"""Matches and comparisons as HTML: a fragment for notebooks, a page for browsers.

1. `sheet` says what is shown, as plain values.
2. The templates escape every one of them; no text stands in an attribute, a style or a script.
3. A fragment carries its style, which reaches nothing else, and its script, without which it can still be read.
4. A page is a fragment in a document that may load nothing and runs this one script: a policy says so to the browser.

Equal matches give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import colindex
from colindex.match import Match
from colindex.views import sheet
from colindex.views.characters import block, line
from colindex.views.comparison import Comparison, Pair
from colindex.views.figures import decimal, sign, signed
from colindex.views.grid import scale, shares
from colindex.views.rows import rows

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["comparison_fragment", "comparison_page", "hashed", "match_fragment", "match_page", "script_hash"]

_HINT = "Point at a query token to see where it matched; click to keep it, Esc to let go."


def match_fragment(match: Match) -> str:
    """What a notebook shows of a match."""
    return _rendered("match.html.j2", view=_match_view(match), **_assets())


def match_page(match: Match) -> str:
    """A whole page of a match."""
    return _page(f"{_query(match)} – {match.id}", match_fragment(match))


def comparison_fragment(comparison: Comparison) -> str:
    """What a notebook shows of a comparison."""
    return _rendered("comparison.html.j2", view=_comparison_view(comparison), **_assets())


def comparison_page(comparison: Comparison) -> str:
    """A whole page of a comparison."""
    title = f"{_query(comparison.first)} – {' and '.join(comparison.names)}"
    return _page(title, comparison_fragment(comparison))


def script_hash() -> str:
    """The one script that a fragment holds, as a content security policy names it."""
    return hashed(_assets()["script"])


def hashed(script: str) -> str:
    """A script as a content security policy names it: its hash, in quotes."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _match_view(match: Match) -> dict[str, Any]:
    table, shown = rows(match), scale(match)
    exact = match.exact_score
    view_rows = [sheet.row(row) for row in table]
    return {
        "kind": f"Document {line(match.id)}",
        "query": match.query,
        "count": len(match.query_tokens),
        **sheet.chips(match, [decimal(row.part.score) for row in table] or ["none"] * len(match.query_tokens)),
        "score": decimal(match.score),
        "hint": _HINT if table else "There is nothing to match.",
        "side": sheet.side(match, shown),
        "scale": sheet.legend(shown, float(shares(match).max(initial=0.0))) if table else None,
        "rows": view_rows,
        "exact": decimal(exact) if exact is not None and match.similarities.shape[1] else "",
        "difference": signed(match.score - exact) if exact is not None else "",
        "elsewhere": any(row["elsewhere"] for row in view_rows),
        "grid": sheet.grid(match),
    }


def _comparison_view(comparison: Comparison) -> dict[str, Any]:
    matches = (comparison.first, comparison.second)
    shown = scale(*matches)
    largest = max(float(shares(match).max(initial=0.0)) for match in matches)
    same = comparison.first.id == comparison.second.id
    pairs = comparison.pairs
    return {
        "kind": f"Document {line(comparison.first.id)}, twice" if same else "Two documents",
        "query": comparison.first.query,
        "count": len(comparison.first.query_tokens),
        **sheet.chips(comparison.second, [signed(pair.difference) for pair in pairs]),
        "difference": signed(comparison.difference),
        "sign": f"cx-{sign(comparison.difference)}",
        "hint": _HINT,
        "sides": [sheet.side(match, shown, name) for match, name in zip(matches, comparison.names, strict=True)],
        "scale": sheet.legend(shown, largest),
        "rows": [_pair(pair) for pair in pairs],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "position": pair.number - 1,
        "token": pair.token,
        "halves": [None if row is None else sheet.row(row) for row in pair.rows],
        "difference": signed(pair.difference),
        "difference_number": repr(pair.difference),
        "sign": f"cx-{sign(pair.difference)}",
    }


def _query(match: Match) -> str:
    return f"{len(match.query_tokens)} query vectors" if match.query is None else match.query


def _page(title: str, fragment: str) -> str:
    return _rendered(
        "page.html.j2",
        title=title,
        fragment=fragment,
        script_hash=script_hash(),
        version=colindex.__version__,
    )


def _rendered(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _assets() -> dict[str, str]:
    folder = files("colindex.views") / "templates"
    return {name: (folder / f"match.{end}").read_text("utf-8") for name, end in (("style", "css"), ("script", "js"))}


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("colindex.views"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"block": block, "line": line}
    return environment
