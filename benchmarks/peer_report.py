"""What the peer benchmark shows: tables on a terminal, tables in markdown, a plot, the block in README.md.

The full table has every row. README's has, of each contestant, the rows that no other row of the same contestant beats in both
recall and latency; what failed, with its reason; and the builds.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from rich.table import Table

from benchmarks.peer_results import OURS, BuildRow, Results, SearchRow, frontier

__all__ = ["BEGIN", "END", "build_table", "markdown", "plot", "readme_block", "search_table", "with_block"]

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"

SEARCH_HEADINGS = ("engine", "search settings", "recall@{k}", "median ms", "p95 ms", "colindex, ms", "times faster")
BUILD_HEADINGS = ("engine", "version", "build s", "bytes a token", "peak MiB", "times faster")


# ---- rows as text


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _at_least(value: float | None) -> str:
    """Rounded down: it stays true.

    >>> _at_least(25.38)
    '> 25.3'
    """
    return "" if value is None else f"> {_figure(math.floor(value * 10) / 10, 1)}"


def _milliseconds(value: float | None) -> str:
    """Three digits, whatever the size.

    >>> _milliseconds(0.61234), _milliseconds(17.58), _milliseconds(1234.5)
    ('0.612', '17.6', '1,234')
    """
    if value is None:
        return ""
    return _figure(value, 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0)


def search_cells(results: Results, row: SearchRow) -> list[str]:
    """A row of the searches; "not reached" where no row of ours finds as much."""
    if row.reason is not None:
        return [row.name, row.setting, f"failed: {row.reason}", "", "", "", ""]
    ours, faster = results.equal(row), results.faster(row)
    measured = any(own.engine == OURS and own.recall is not None for own in results.searches)
    compared = measured and row.engine != OURS and not row.refines
    return [
        row.name,
        f"{row.setting} (candidates given: refinement alone)" if row.refines else row.setting,
        _figure(row.recall, 3),
        _milliseconds(row.median_ms),
        _milliseconds(row.p95_ms),
        _milliseconds(None if ours is None else ours.median_ms),
        (_figure(faster, 1) if faster is not None else "not reached") if compared else "",
    ]


def build_cells(results: Results, row: BuildRow) -> list[str]:
    """A row of the builds; "> 150" seconds where one was given up, and "> 25.3" times faster."""
    if row.given_up is not None:
        return [row.name, row.version, f"> {_figure(row.given_up, 0)}", "", "", _at_least(results.builds_faster(row))]
    if row.reason is not None:
        return [row.name, row.version, f"failed: {row.reason}", "", "", ""]
    figures = (_figure(row.seconds, 1), _figure(row.bytes_a_token, 1), _figure(row.peak_mib, 0))
    return [row.name, row.version, *figures, _figure(results.builds_faster(row), 1)]


def shown(results: Results) -> Iterator[SearchRow]:
    """README's rows: each contestant's frontier, or one row that says why there is none."""
    for _, group in groupby(results.searches, key=lambda row: row.name):
        rows = list(group)
        yield from frontier(rows) or rows[:1]


def search_headings(results: Results) -> list[str]:
    """The headings, with the k of the run."""
    return [heading.format(k=results.k) for heading in SEARCH_HEADINGS]


# ---- on a terminal


def search_table(results: Results) -> Table:
    """Every row of the searches."""
    rows = (search_cells(results, row) for row in results.searches)
    return _table(_title(results), search_headings(results), rows)


def build_table(results: Results) -> Table:
    """Every row of the builds."""
    title = f"Builds, {results.build_threads} threads"
    return _table(title, BUILD_HEADINGS, (build_cells(results, row) for row in results.builds))


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*headings, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def _title(results: Results) -> str:
    size = f"{results.documents:,} documents, {results.tokens:,} tokens, {results.dim} dims"
    threads = "one thread" if results.search_threads == 1 else f"{results.search_threads} threads"
    return f"{results.label}: {size}, {results.queries:,} queries, {threads}"


# ---- in markdown


def markdown(results: Results) -> str:
    """The whole result, for `results/peers-LABEL.md`."""
    return "\n\n".join([f"# {_title(results)}", *_tables(results, results.searches), _provenance(results)]) + "\n"


def readme_block(every: Sequence[Results], pictures: str) -> str:
    """The text between the two marks in README.md; `pictures` is the folder of the plots as README links it."""
    parts = []
    for results in every:
        picture = f"![Recall against latency, {results.label}]({pictures}/peers-{results.label}.svg)"
        searches, *others = _tables(results, list(shown(results)))
        folded = [f"<details><summary>The points of the plot, {results.label}</summary>", searches, "</details>"]
        parts += [f"**{_title(results)}**", picture, *folded, *others, _provenance(results)]
    return "\n\n".join(parts)


def with_block(text: str, block: str) -> str:
    """README's text with the block between its marks replaced.

    Raises:
        ValueError: the marks are not there once each, in order.
    """
    before, begun, rest = text.partition(BEGIN)
    old, ended, after = rest.partition(END)
    if not begun or not ended or BEGIN in rest or END in after:
        raise ValueError(
            f"README: expected one line {BEGIN} and after it one line {END}; add them where the table belongs."
        )
    del old
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def _tables(results: Results, rows: Sequence[SearchRow]) -> list[str]:
    searches = _markdown_table(search_headings(results), [search_cells(results, row) for row in rows])
    builds = _markdown_table(BUILD_HEADINGS, [build_cells(results, row) for row in results.builds])
    notes = sorted({f"{row.name}: {row.note}." for row in rows if row.note})
    return [searches, builds, *([" ".join(notes)] if notes else [])]


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _provenance(results: Results) -> str:
    days = sorted({row.date[:10] for row in results.builds if row.cached and row.date})
    cached = f" Peers' builds kept from {', '.join(days)}." if days else ""
    return f"{results.date[:10]}, commit {results.commit}, {results.machine}.{cached} Command: `{results.command}`"


# ---- as a plot


def plot(results: Results, folder: Path) -> list[Path]:
    """Recall against latency, `peers-LABEL.svg` and `.png`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "colindex"  # the same figures give the same file
    pyplot, ticker = importlib.import_module("matplotlib.pyplot"), importlib.import_module("matplotlib.ticker")
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    markers = iter("osv^D<>PXph*" * 2)
    for name, group in groupby(results.searches, key=lambda row: row.name):
        rows, marker = list(group), next(markers)
        line = frontier(row for row in rows if not row.refines)
        given = [row for row in rows if row.refines and row.median_ms is not None]
        width = 2.5 if line and line[0].engine == OURS else 1.2
        if line:
            x, y = [row.median_ms for row in line], [row.recall for row in line]
            axes.plot(x, y, marker=marker, label=name, linewidth=width, markersize=5)
        if given:
            x, y = [row.median_ms for row in given], [row.recall for row in given]
            axes.plot(
                x, y, marker=marker, linestyle="", fillstyle="none", color="gray", label=f"{name}, refinement alone"
            )
    axes.set(xscale="log", xlabel="median latency, ms (log scale)", ylabel=f"recall of the exact top {results.k}")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_title(_title(results), fontsize=9)
    axes.grid(visible=True, which="both", alpha=0.25)
    if axes.lines:
        axes.legend(fontsize=8, loc="lower right")
    paths = [folder / f"peers-{results.label}.{kind}" for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return paths
