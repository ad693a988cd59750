"""What a compaction writes anew, judged by sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from colindex.compaction_plan import Run, Stored, plan

TOKENS, DOCUMENTS = 1000, 40


def stored(documents: int, tokens: int = 0, deleted: int = 0, columns: str = "") -> Stored:
    """A segment of documents of equal length, but for what is left over."""
    lengths = np.full(documents, tokens // max(1, documents), np.uint32)
    lengths[: tokens - int(lengths.sum())] += 1
    return Stored(lengths, deleted, frozenset(columns))


def planned(segments: Sequence[Stored], full: bool = False) -> list[Run]:
    return plan(segments, TOKENS, full=full, max_documents=DOCUMENTS)


def carried_out(segments: Sequence[Stored], runs: Sequence[Run]) -> list[Stored]:
    """The segments after the runs were written anew."""
    after: list[Stored] = []
    position = 0
    for run in runs:
        after += segments[position : run.first]
        sources = [each for each in segments[run.first : run.stop] if each.documents]
        lengths = np.concatenate([np.empty(0, np.uint32), *(each.lengths for each in sources)])
        edges = np.cumsum([0, *run.outputs])
        assert edges[-1] == len(lengths)
        after += [replace(sources[0], lengths=lengths[start:stop], deleted=0) for start, stop in pairwise(edges)]
        position = run.stop
    return [*after, *segments[position:]]


SEGMENTS = st.lists(
    st.builds(
        Stored,
        st.lists(st.integers(0, 1 << 10) | st.just(0) | st.integers(0, 40), max_size=DOCUMENTS).map(
            lambda lengths: np.array(lengths, np.uint32)
        ),
        st.sampled_from([0, 0, 0, 1, 5, 30]),
        st.sampled_from([frozenset(), frozenset({"token_ids"})]),
    ),
    max_size=14,
)


@given(SEGMENTS, st.booleans())
@example([stored(1, 300), stored(1, 300), stored(1, 300), stored(0, 0, 4, "x"), stored(1, 10)], False)
@example([stored(20, 600) for _ in range(5)], True)
def test_any_plan(segments: list[Stored], full: bool) -> None:
    runs = planned(segments, full)
    assert all(run.first < run.stop for run in runs)
    assert all(one.stop <= other.first for one, other in pairwise(runs)), "in order, and no segment twice"
    for run in runs:
        sources = [each for each in segments[run.first : run.stop] if each.documents]
        assert len({each.columns for each in sources}) <= 1
        assert sum(run.outputs) == sum(each.documents for each in sources), "no document is lost"
        assert all(0 < documents <= DOCUMENTS for documents in run.outputs)
        assert len(run.outputs) <= max(len(sources), 1)
    after = carried_out(segments, runs)
    assert [*np.concatenate([[0], *(each.lengths for each in after)])] == [
        *np.concatenate([[0], *(each.lengths for each in segments)])
    ], "documents keep their order"
    for run, made in _made(segments, after, runs):
        assert made.tokens <= TOKENS or made.documents == 1 or run.stop == run.first + 1
    assert all(each.documents for each in after), "empty segments are dropped"
    assert planned(after, full) == [], "the second time there is nothing to do"
    if full:
        assert not any(each.deleted for each in after)


def _made(segments: list[Stored], after: list[Stored], runs: list[Run]) -> list[tuple[Run, Stored]]:
    """The new segments, each with its run."""
    found, gone, made = [], 0, 0
    for run in runs:
        at = run.first - gone + made
        found += [(run, after[at + number]) for number in range(len(run.outputs))]
        gone, made = gone + run.stop - run.first, made + len(run.outputs)
    return found


@given(SEGMENTS)
def test_in_full_no_two_neighbours_would_fit_into_one(segments: list[Stored]) -> None:
    after = carried_out(segments, planned(segments, full=True))
    for one, other in pairwise(after):
        fits = one.tokens + other.tokens <= TOKENS and one.documents + other.documents <= DOCUMENTS
        assert not fits or one.columns != other.columns


@pytest.mark.parametrize("tokens", [1_600, 2_500, 10])
def test_no_vector_is_rewritten_for_little(tokens: int) -> None:
    """Compacted after each add, a vector moves as often as its segment can grow by half, and not with every add."""
    full = 100_000
    floor = full / 64
    segments: list[Stored] = []
    rewritten = adds = 0
    while adds * tokens < full / 2 and adds < 200:
        segments, adds = [*segments, stored(1, tokens)], adds + 1
        runs = plan(segments, full)
        rewritten += sum(each.tokens for run in runs for each in segments[run.first : run.stop])
        segments = carried_out(segments, runs)
    times = np.log(full / 2 / floor) / np.log(1.5)
    assert rewritten <= adds * (tokens * times + 3 * floor)
    assert rewritten >= adds * tokens, "but they are merged"
    if tokens > floor:
        assert rewritten <= adds * tokens * times


@pytest.mark.parametrize(
    ("segments", "runs"),
    [
        ([], []),
        ([stored(3, 100)], []),
        ([stored(3, 100), stored(3, 100)], [Run(0, 2, (6,))]),
        ([stored(9, 900), stored(3, 100), stored(3, 90)], [Run(1, 3, (6,))]),
        ([stored(9, 400), stored(1, 100)], []),
        ([stored(9, 400), stored(1, 100), stored(1, 150)], [Run(0, 3, (11,))]),
        ([stored(2, 10), stored(1, 1)], [Run(0, 2, (3,))]),
        ([stored(15, 3), stored(15, 3), stored(15, 3)], [Run(0, 2, (30,))]),
        ([stored(3, 100, columns="a"), stored(3, 100)], []),
        ([stored(9, 900, deleted=3), stored(9, 900, deleted=4)], [Run(1, 2, (9,))]),
        ([stored(0, 0, 5), stored(9, 900), stored(0, 0, 2)], [Run(0, 1, ()), Run(2, 3, ())]),
        ([stored(3, 100), stored(0, 0, 9, "b"), stored(3, 100)], [Run(0, 3, (6,))]),
    ],
    ids=[
        "nothing", "alone", "two alike", "behind a large one", "one much larger", "together worth it", "tiny",
        "too many documents", "other columns", "deleted", "all deleted", "all deleted between",
    ],
)  # fmt: skip
def test_by_tiers(segments: list[Stored], runs: list[Run]) -> None:
    assert planned(segments) == runs


@pytest.mark.parametrize(
    ("segments", "runs"),
    [
        ([stored(9, 900), stored(1, 50), stored(1, 50)], [Run(0, 3, (11,))]),
        ([stored(9, 900), stored(9, 900, deleted=1), stored(9, 900)], [Run(1, 2, (9,))]),
        ([stored(10, 1000), *[stored(6, 600)] * 5], [Run(1, 6, (10, 10, 10))]),
        ([stored(12, 1200), stored(5, 500)], []),
    ],
    ids=["whole", "only what is not clean", "cut anew", "over its budget"],
)
def test_in_full(segments: list[Stored], runs: list[Run]) -> None:
    assert planned(segments, full=True) == runs
