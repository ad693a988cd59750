"""A match or a comparison for a terminal, as something that rich prints.

1. The query, the score, and what it was before quantization.
2. The table of contributions, with bars for the shares.
3. The text, tokens coloured by their strongest similarity. What contributes is underlined and followed by the number of its
   query token, so that it can be told without colours too. Of a long text, the surroundings of what contributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from colindex.match import Match
from colindex.views.characters import line, screen
from colindex.views.comparison import Comparison, Pair
from colindex.views.figures import counts, decimal, hundredths, percent, sign, signed
from colindex.views.grid import Scale, scale, strongest
from colindex.views.pieces import Piece, contents, pieces, unplaced
from colindex.views.rows import Row, rows

__all__ = ["comparison_view", "match_view"]

_WHOLE = 1_600  # characters that are shown whole
_AROUND = 160  # characters around what contributes, of longer texts
_UNPLACED = 60  # vectors without a text
_BEFORE = 12  # characters, in the narrow columns of a comparison
_BAR = 8  # cells
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
# From strength to style; both colours are set, so that they can be read on dark and on light terminals.
_STYLES = ((0.75, "#1d1300 on #f5ad33"), (0.4, "#1d1300 on #dcb878"))
_SIGNS = {"plus": "green", "minus": "red", "none": ""}


def match_view(match: Match) -> RenderableType:
    """A match."""
    table = rows(match)
    shown = scale(match)
    return Group(
        _heading(match), *([_contributions(match, table)] if table else []), *_text(match, shown), _legend(shown)
    )


def comparison_view(comparison: Comparison) -> RenderableType:
    """Two matches: the differences, then both texts."""
    matches = (comparison.first, comparison.second)
    shown = scale(*matches)
    texts: list[RenderableType] = []
    for match, name in zip(matches, comparison.names, strict=True):
        texts += [Text(f"\n{line(name)}: {decimal(match.score)}", "bold"), *_text(match, shown)]
    return Group(_query(comparison.first), _differences(comparison), *texts, _legend(shown))


def _query(match: Match) -> Text:
    return Text(f"{len(match.query_tokens)} query vectors" if match.query is None else line(match.query), "bold")


def _heading(match: Match) -> Text:
    text = _query(match).append(f"\n{line(match.id)}  ", "none").append(f"score {decimal(match.score)}", "bold")
    if match.exact_score is not None and match.similarities.shape[1]:
        difference = match.score - match.exact_score
        text.append(f"  {decimal(match.exact_score)} before quantization, {signed(difference)}", "none")
    tokens, vectors = len(match.stored), match.similarities.shape[1]
    if tokens != vectors:
        text.append(f"  {counts(tokens, vectors)}", "none")
    return text


def _contributions(match: Match, table: Sequence[Row]) -> Table:
    view = _table()
    exact = table[0].exact is not None
    view.add_column("#", justify="right", no_wrap=True)
    view.add_column("query token", overflow="ellipsis", no_wrap=True)
    view.add_column("best match in the document", overflow="ellipsis", no_wrap=True, ratio=1)
    for name in ("similarity", "share", *(("exact", "difference") if exact else ())):
        view.add_column(name, justify="right" if name != "share" else "left", no_wrap=True)
    largest = max(row.part.share for row in table)
    for row in table:
        cells = [Text(decimal(row.part.score)), _share(row.part.share, largest)]
        if row.exact is not None:
            cells += [Text(decimal(row.exact.score)), _difference(row.exact.difference)]
        view.add_row(Text(str(row.number)), Text(line(row.token), "bold"), _context(row), *cells)
    sums = [Text(decimal(match.score), "bold"), Text("")]
    if exact and match.exact_score is not None:
        sums += [Text(decimal(match.exact_score), "bold"), _difference(match.score - match.exact_score)]
    view.add_section()
    view.add_row(Text(""), Text("score", "bold"), Text(""), *sums)
    return view


def _differences(comparison: Comparison) -> Table:
    view = _table()
    view.add_column("#", justify="right", no_wrap=True)
    view.add_column("query token", overflow="ellipsis", no_wrap=True)
    for name in comparison.names:
        view.add_column(Text(line(name)), overflow="ellipsis", no_wrap=True, ratio=1)
        view.add_column("similarity", justify="right", no_wrap=True)
    view.add_column("difference", justify="right", no_wrap=True)
    for pair in comparison.pairs:
        view.add_row(
            Text(str(pair.number)), Text(line(pair.token), "bold"), *_halves(pair), _difference(pair.difference)
        )
    first, second = (Text(decimal(match.score), "bold") for match in (comparison.first, comparison.second))
    view.add_section()
    total = _difference(comparison.difference)
    view.add_row(Text(""), Text("score", "bold"), Text(""), first, Text(""), second, total)
    return view


def _halves(pair: Pair) -> Iterator[Text]:
    for row in pair.rows:
        yield Text("") if row is None else _context(row, _BEFORE)
        yield Text("none") if row is None else Text(decimal(row.part.score))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)


def _context(row: Row, before: int | None = None) -> Text:
    """The best match in its context, at most `before` characters of which stand before it."""
    text = Text(line(_last_words(row.context.before, before)), "dim").append(
        line(row.context.token), "not dim bold underline"
    )
    text.append(line(row.context.after), "dim")
    return text.append(f"\npooled: {line(row.pooled)}", "dim") if row.pooled else text


def _last_words(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    return "… " + text[-limit:].partition(" ")[2]


def _share(share: float, largest: float) -> Text:
    eighths = round(8 * _BAR * max(share, 0.0) / largest) if largest > 0 else 0
    whole, part = divmod(min(eighths, 8 * _BAR), 8)
    bar = "█" * whole + (_EIGHTHS[part] if part else "")
    return Text(f"{percent(share):>4} ").append(f"{bar:<{_BAR}}", "#d98c14")


def _difference(value: float) -> Text:
    return Text(signed(value), _SIGNS[sign(value)])


def _text(match: Match, shown: Scale) -> Iterator[RenderableType]:
    """The document, or the stored vectors by position, and what does not stand in the text."""
    strengths = shown.strength(strongest(match)).tolist()
    numbers: dict[int, list[int]] = {}
    for part in match.contributions:
        numbers.setdefault(part.stored, []).append(part.query_token + 1)
    found = pieces(match)
    text, heading = Text("\n"), False
    for piece in _kept(found, numbers):
        if isinstance(piece, int):
            text.append(f" [… {piece:,} characters …] ", "dim")
            continue
        if heading and not piece.title:
            text.append("\n")
        heading = piece.title
        style = _style(piece, strengths, numbers)
        text.append(screen(piece.text), f"bold {style}".strip() if piece.title else style)
        text.append(_raised([number for stored in piece.ending for number in numbers.get(stored, ())]), "bold")
    yield text
    beyond = sum(len(piece.text) for piece in found if not piece.indexed)
    if beyond:
        yield Text(f"The last {beyond:,} characters lie beyond the encoder's window: they were not indexed.", "dim")
    if unplaced(match):
        yield _without_text(match, strengths, numbers)
    if not match.similarities.shape[1]:
        yield Text("The document has no stored vector, so nothing can match.", "dim")


def _kept(found: Sequence[Piece], numbers: dict[int, list[int]]) -> Iterator[Piece | int]:
    """The pieces to show, and for each gap between them its length."""
    starts = [0]
    for piece in found:
        starts.append(starts[-1] + len(piece.text))
    if starts[-1] <= _WHOLE:
        yield from found
        return
    hits = [at for at, piece in enumerate(found) if any(stored in numbers for stored in piece.stored)] or [0]
    near: set[int] = set()
    for hit in hits:
        low, high = starts[hit] - _AROUND, starts[hit + 1] + _AROUND
        at = hit
        while at > 0 and starts[at] > low:
            at -= 1
        while at < len(found) and starts[at] < high:
            near.add(at)
            at += 1
    gap = 0
    for at, piece in enumerate(found):
        if at in near and not (len(piece.text) > 2 * _AROUND and not piece.stored):
            if gap:
                yield gap
            gap = 0
            yield piece
        else:
            gap += len(piece.text)
    if gap:
        yield gap


def _style(piece: Piece, strengths: Sequence[float], numbers: dict[int, list[int]]) -> str:
    if not piece.indexed:
        return "dim"
    strength = max((strengths[stored] for stored in piece.stored), default=0.0)
    colour = next((style for least, style in _STYLES if strength >= least), "")
    hit = any(stored in numbers for stored in piece.stored)
    return f"bold underline {colour}" if hit else colour


def _without_text(match: Match, strengths: Sequence[float], numbers: dict[int, list[int]]) -> Text:
    """Stored vectors whose tokens the text does not hold: those that contribute, and the others while there is room."""
    stored = sorted({int(match.stored[source]) for source in unplaced(match)})
    shown = [vector for vector in stored if vector in numbers or len(stored) <= _UNPLACED]
    text = Text("\nWithout a place in the text: ", "dim")
    for vector in shown:
        piece = Piece(contents(match, vector)[0], (vector,), (vector,), title=False, indexed=True)
        text.append(line(piece.text), f"not dim {_style(piece, strengths, numbers)}".strip())
        text.append(_raised(numbers.get(vector, [])) + " ", "not dim bold")
    if len(shown) < len(stored):
        text.append(f"and {len(stored) - len(shown):,} more")
    return text


def _raised(numbers: list[int]) -> str:
    return "·".join(str(number).translate(_SUPERSCRIPTS) for number in sorted(numbers))


def _legend(shown: Scale) -> Text:
    text = Text("\n")
    for least, style in reversed(_STYLES):
        value = shown.low + least * (shown.high - shown.low)
        text.append(f" {hundredths(value)} ", style).append(" ")
    return (
        text.append("similarity of a token from here on; ", "dim")
        .append("underlined", "underline")
        .append("¹ adds to the score: the best match of query token 1", "dim")
    )
