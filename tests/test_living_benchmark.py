"""The benchmark of a living index: right answers pass, and whatever may be wrong with one is counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.living import APPROXIMATE, Answer, K, Read, wrong_answers
from colindex import BuildParams, Index
from tests.words import batches

Queries = list[NDArray[np.float32]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path = tmp_path_factory.mktemp("living") / "index"
    Index.build_from_vectors(path, batches(60, tokens=6), BuildParams(bits=2))
    with Index.open(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def queries() -> Queries:
    return list(np.random.default_rng(1).standard_normal((2, 3, 16), np.float32))


@pytest.fixture(scope="module")
def answer(index: Index, queries: Queries) -> Answer:
    """To the first query."""
    return tuple((hit.id, hit.score) for hit in index.search_vectors(queries[0], K, params=APPROXIMATE))


def reader(*answers: Answer, refreshes: bool = True) -> Read:
    """What a reader saw that asked the first query alone."""
    return Read(refreshes, answers={0: set(answers)})


def test_right_answers_pass(index: Index, queries: Queries, answer: Answer) -> None:
    seen = [reader(answer), reader(answer, refreshes=False), Read(refreshes=True)]
    assert len(answer) == K
    assert wrong_answers(index, queries, seen) == 0


def test_what_is_wrong_is_counted(index: Index, queries: Queries, answer: Answer) -> None:
    (id_, score), *others = answer
    raised = ((id_, float(np.nextafter(np.float32(score), np.float32(99)))), *others)
    wrong = {
        "another score, by a bit": raised,
        "too short": answer[:-1],
        "out of order": answer[::-1],
        "one twice": (answer[0], *answer[:-1]),
        "a document that is not there": (("nowhere", score), *others),
    }
    for name, each in wrong.items():
        assert wrong_answers(index, queries, [reader(each), reader(answer)]) == 1, name
    assert wrong_answers(index, queries, [reader(*wrong.values(), answer)]) == len(wrong)


def test_who_keeps_a_generation_keeps_its_answers(index: Index, queries: Queries, answer: Answer) -> None:
    """Both answers are right by their scores: the documents between them have gone, or come."""
    ids = [f"v{number}" for number in range(60) if f"v{number}" != answer[0][0]]
    hits = index.search_vectors(queries[0], K, params=APPROXIMATE, ids=ids)
    other = tuple((hit.id, hit.score) for hit in hits)
    assert wrong_answers(index, queries, [reader(answer, other)]) == 0
    assert wrong_answers(index, queries, [reader(answer, other, refreshes=False)]) == 1
