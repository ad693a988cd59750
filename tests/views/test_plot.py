"""The heatmap of matplotlib."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from colindex.errors import MissingDependencyError
from tests.views.matches import made_match, vector_match

pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def drawn_nowhere() -> Iterator[None]:
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def test_the_heatmap_shows_the_similarities_by_their_tokens() -> None:
    match = made_match("one two three $x_1$", "a $b$")
    ax = match.plot()
    (image,) = ax.get_images()
    assert np.asarray(image.get_array()).tolist() == match.similarities.tolist()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "$b$"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["one", "two", "three", "$", "x_1", "$"]
    assert len(ax.patches) == 2  # the best match of each query token
    ax.figure.canvas.draw()  # a formula that is none would fail here


def test_axes_of_others_are_drawn_on() -> None:
    figure, (left, right) = pyplot.subplots(1, 2)
    assert made_match("one two").plot(left) is left
    assert vector_match().plot(ax=right) is right
    assert [label.get_text() for label in right.get_xticklabels()][:2] == ["#0", "#1"]
    figure.canvas.draw()


def test_long_documents_are_cut_to_what_matters() -> None:
    match = made_match("word " * 500, "a b")
    (image,) = match.plot().get_images()
    shape = np.asarray(image.get_array()).shape
    assert shape == (2, 60)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"colindex\[notebooks\]"):
        made_match("one").plot()
