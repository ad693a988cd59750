"""Numbers as they are read in a view."""

from __future__ import annotations

import math

__all__ = ["counts", "decimal", "hundredths", "percent", "sign", "signed"]


def counts(tokens: int, vectors: int) -> str:
    """How many tokens a document has, and how many vectors stand for them.

    >>> counts(1, 1), counts(1_200, 600)
    ('1 token', '1,200 tokens, pooled into 600 stored vectors')
    """
    text = f"{tokens:,} token{'' if tokens == 1 else 's'}"
    return text if tokens == vectors else f"{text}, pooled into {vectors:,} stored vector{'' if vectors == 1 else 's'}"


def decimal(value: float) -> str:
    """Three digits after the point; a minus sign, no hyphen.

    >>> decimal(-0.25), decimal(-0.0001), decimal(float("-inf"))
    ('−0.250', '0.000', '−∞')
    """
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    return _with_minus(f"{value:.3f}")


def signed(value: float) -> str:
    """As `decimal`, with a plus sign where it is more than nothing.

    >>> signed(0.25), signed(-0.25), signed(0.0001)
    ('+0.250', '−0.250', '0.000')
    """
    text = decimal(value)
    return f"+{text}" if sign(value) == "plus" else text


def sign(value: float) -> str:
    """`plus`, `minus` or `none`, after rounding to what is shown."""
    rounded = round(value, 3)
    return "none" if rounded == 0 or math.isnan(rounded) else "plus" if rounded > 0 else "minus"


def hundredths(value: float) -> str:
    """Two digits, for the narrow cells of a heatmap.

    >>> hundredths(0.25), hundredths(-0.05), hundredths(0.999), hundredths(12.34)
    ('.25', '−.05', '1.00', '12.3')
    """
    if abs(value) >= 9.995:
        return _with_minus(f"{value:.3g}")
    text = f"{value:.2f}"
    return _with_minus(text.replace("0.", ".", 1) if abs(value) < 0.995 else text)


def percent(share: float) -> str:
    """A share of the whole.

    >>> percent(0.256)
    '26%'
    """
    return _with_minus(f"{100 * share:.0f}") + "%"


def _with_minus(text: str) -> str:
    return text.replace("-", "−") if any(digit in "123456789" for digit in text) else text.replace("-", "")
