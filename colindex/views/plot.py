"""A match as a heatmap of matplotlib, which is imported only to draw one.

1. Columns: the stored vectors that matter (`grid.columns`); rows: the query tokens.
2. Each cell is coloured by its similarity, on the scale of the other views; the best match of a query token has a frame.
3. Labels are plain text: a `$` in a document starts no formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from colindex.errors import MissingDependencyError
from colindex.match import Match
from colindex.views.characters import line
from colindex.views.figures import decimal
from colindex.views.grid import columns, query_rows, scale
from colindex.views.pieces import contents

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["heatmap"]

_ROWS, _COLUMNS = 64, 60
_CELL = 0.3  # inches
_LABEL = 18  # characters


def heatmap(match: Match, ax: Axes | None = None) -> Axes:
    """Draw a match on `ax`, or on a new figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    across, down = columns(match, _COLUMNS), query_rows(match, _ROWS)
    ax = _new_axes(len(down), len(across)) if ax is None else ax
    shown = scale(match)
    values = match.similarities[np.ix_(down, across)]
    image = ax.imshow(values, vmin=shown.low, vmax=max(shown.high, shown.low + 1e-6), cmap="YlOrBr", aspect="auto")
    _frame_best(match, ax, across.tolist(), down.tolist())
    ax.set_xticks(range(len(across)), [_label(contents(match, stored)) for stored in across.tolist()], rotation=90)
    ax.set_yticks(range(len(down)), [_label((match.query_tokens[query],)) for query in down.tolist()])
    ax.set_title(f"{_label((match.id,))}: {decimal(match.score)}", loc="left")
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels(), ax.title):
        label.set_parse_math(False)
    if values.size:
        ax.figure.colorbar(image, ax=ax, label="similarity", pad=0.02)
    return ax


def _new_axes(rows: int, across: int) -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingDependencyError(
            "Match.plot: expected matplotlib, which is not installed; pip install 'colindex[notebooks]', or look at the "
            "match with to_html."
        ) from error
    size = (max(3 + _CELL * across, 5), max(1.6 + _CELL * rows, 2.4))
    _, ax = pyplot.subplots(figsize=size, layout="constrained")
    return ax


def _frame_best(match: Match, ax: Axes, across: list[int], down: list[int]) -> None:
    from matplotlib.patches import Rectangle

    for part in match.contributions:
        if part.query_token in down and part.stored in across:
            corner = (across.index(part.stored) - 0.5, down.index(part.query_token) - 0.5)
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.2))


def _label(names: tuple[str, ...]) -> str:
    text = line(names[0]).strip()
    more = " …" if len(set(names)) > 1 else ""
    return (text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…") + more
