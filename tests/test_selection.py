"""Selections, against lists of booleans."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.selection import Selection

Marks = list[list[bool]]
marks = st.lists(st.lists(st.booleans(), max_size=30), max_size=4)


def packed(each: list[bool]) -> NDArray[np.uint8]:
    return np.packbits(np.array(each, np.bool_), bitorder="little")


def selection(allowed: Marks) -> Selection:
    return Selection.of([len(each) for each in allowed], [packed(each) for each in allowed])


def numbers(allowed: Marks) -> list[int]:
    return [number for number, mark in enumerate(mark for each in allowed for mark in each) if mark]


@given(marks)
def test_a_selection_is_its_documents(allowed: Marks) -> None:
    found = selection(allowed)
    assert found.documents().tolist() == numbers(allowed)
    assert found.count == len(numbers(allowed))
    assert [bits is None for bits in found.bits] == [all(each) for each in allowed]
    for segment, each in enumerate(allowed):
        assert [(segment, document) in found for document in range(len(each))] == each
    assert found.nbytes == sum(-(-len(each) // 8) for each in allowed if not all(each))


@given(marks, st.randoms(use_true_random=False))
def test_both_is_what_is_in_both(allowed: Marks, random: Random) -> None:
    other = [[random.random() < 0.5 for _ in each] for each in allowed]
    both = [[a and b for a, b in zip(*pair, strict=True)] for pair in zip(allowed, other, strict=True)]
    found = selection(allowed).also([packed(each) for each in other])
    assert found.documents().tolist() == numbers(both)
    everything = selection(allowed).also([None] * len(allowed))
    assert everything.documents().tolist() == numbers(allowed)


@given(marks)
def test_segment_by_segment_is_the_same(allowed: Marks) -> None:
    parts = list(selection(allowed).by_segment())
    assert all(len(part) for part in parts)
    assert [number for part in parts for number in part.tolist()] == numbers(allowed)
