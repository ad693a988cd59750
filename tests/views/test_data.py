"""A match as plain values: JSON holds it, and nothing is lost."""

from __future__ import annotations

import json

import numpy as np
import pytest

from colindex.match import Match
from tests.views.matches import HOSTILE, made_match, vector_match


def through_json(match: Match) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.dumps(match.to_dict(), allow_nan=False))
    assert found == match.to_dict()
    return found


@pytest.mark.parametrize("pool", [1, 2])
def test_the_parts_of_the_score(pool: int) -> None:
    match = made_match(HOSTILE, "a b c", title="Title", pool=pool)
    found = match.to_dict()
    assert through_json(match) == found
    assert sum(part["score"] for part in found["contributions"]) == pytest.approx(match.score, rel=1e-6)
    assert sum(part["exact"]["score"] for part in found["contributions"]) == pytest.approx(
        found["exact_score"], rel=1e-6
    )
    assert np.array(found["similarities"], np.float32).tolist() == match.similarities.tolist()
    for part in found["contributions"]:
        assert part["score"] == found["similarities"][part["query_token"]][part["stored"]]
        assert part["token"] == found["query_tokens"][part["query_token"]]
        tokens = [found["tokens"][token] for token in part["tokens"]]
        assert {token["stored"] for token in tokens} == {part["stored"]}
        assert [token["text"] for token in tokens] == part["texts"]


def test_spans_point_into_the_content() -> None:
    found = made_match("one two", title="Title").to_dict()
    assert [found["content"][slice(*token["span"])] for token in found["tokens"]] == ["Title", "one", "two"]
    assert [token["text"] for token in found["tokens"]] == ["Title", "one", "two"]


def test_vectors_have_neither_text_nor_spans() -> None:
    found = vector_match().to_dict()
    assert found["query"] is None
    assert found["exact"] is None
    assert found["tokens"][3] == {"text": "", "span": None, "token_id": None, "stored": 3}
    assert found["contributions"][0]["texts"] == [f"#{found['contributions'][0]['stored']}"]


def test_a_score_of_no_vector_is_null() -> None:
    found = made_match("").to_dict()
    assert (found["score"], found["exact_score"], found["contributions"]) == (None, None, [])
    through_json(made_match(""))
