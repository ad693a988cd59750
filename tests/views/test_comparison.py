"""Two matches side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from colindex.errors import ParameterError
from colindex.views.figures import signed
from colindex.views.html import comparison_page
from tests.views.matches import made_match, vector_match


def test_the_differences_add_up_to_the_difference_of_the_scores() -> None:
    first, second = made_match("one two three", "a b c"), made_match("four five", "a b c", id_="doc-2", seed=1)
    comparison = first.compare(second)
    assert comparison.names == ("doc-1", "doc-2")
    assert sum(pair.difference for pair in comparison.pairs) == pytest.approx(second.score - first.score, abs=1e-6)
    page = comparison_page(comparison)
    shown = re.findall(r'class="cx-chip-value">([^<]+)<', page)
    assert shown == [signed(pair.difference) for pair in comparison.pairs]


def test_one_document_in_two_indexes() -> None:
    plain, pooled = made_match("one two three four"), made_match("one two three four", pool=2)
    assert plain.compare(pooled).names == ("first", "second")
    comparison = plain.compare(pooled, ("plain", "pooled"))
    page = comparison_page(comparison)
    assert "4 tokens, pooled into 2 stored vectors" in page
    assert "<bdi>pooled</bdi>" in page


def test_a_document_without_vectors_contributes_nothing() -> None:
    comparison = made_match("one two").compare(made_match("", id_="empty"))
    assert [pair.difference for pair in comparison.pairs] == [-row.score for row in comparison.first.contributions]
    assert "none" in comparison_page(comparison)
    assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["difference"] is None


def test_the_data_of_both(tmp_path: Path) -> None:
    first, second = made_match("one two"), made_match("three", id_="doc-2")
    comparison = first.compare(second)
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert found["names"] == ["doc-1", "doc-2"]
    assert found["matches"] == [first.to_dict(), second.to_dict()]
    assert found["difference"] == pytest.approx(second.score - first.score)
    comparison.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == comparison_page(comparison)


def test_matches_of_different_queries_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"expected two matches of one query, got 'a b' and 'a c'"):
        made_match("one", "a b").compare(made_match("one", "a c"))
    with pytest.raises(ParameterError, match="3 vectors"):
        made_match("one", "a b").compare(vector_match())
