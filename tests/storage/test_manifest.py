"""The manifest: what is written comes back, and what is not a manifest is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.storage.checksums import FileSum
from colindex.storage.errors import CorruptIndexError, FormatTooNewError
from colindex.storage.manifest import FORMAT_VERSION, Manifest
from colindex.storage.segments import PARTS, SegmentInfo

WHERE = Path("data.mdb")
SEGMENT = SegmentInfo(
    name="000001",
    documents=3,
    tokens=40,
    source_tokens=80,
    record_bytes=36,
    files={"zarr.json": FileSum(10, "0" * 32), "records/c/0/0": FileSum(20, "f" * 32)},
    bytes_by_part=dict.fromkeys(PARTS, 5),
)
MANIFEST = Manifest(
    generation=4,
    created="2026-01-01T00:00:00+00:00",
    dim=128,
    input_dim=384,
    bits=2,
    codec="lloyd-max",
    params={"bits": 2},
    encoder={"name": "minilm"},
    codebook="codebook-000001",
    codebook_files={"zarr.json": FileSum(1, "a" * 32)},
    segments=(SEGMENT,),
    next_segment=2,
    documents=3,
    tokens=40,
)

words = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, json_values, max_size=4)
sums = st.builds(FileSum, st.integers(0, 2**50), st.text("0123456789abcdef", min_size=32, max_size=32))
counts = st.integers(0, 2**40)
segments = st.builds(
    SegmentInfo,
    name=st.integers(1, 999_999).map("{:06d}".format),
    documents=st.integers(1, 65_536),
    tokens=counts,
    source_tokens=counts,
    record_bytes=st.integers(4, 2000),
    files=st.dictionaries(words, sums, max_size=4),
    bytes_by_part=st.fixed_dictionaries(dict.fromkeys(PARTS, counts)),
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    parts = tuple(draw(st.lists(segments, max_size=3)))
    return Manifest(
        generation=draw(counts),
        created=draw(words),
        dim=draw(counts),
        input_dim=draw(counts),
        bits=draw(st.sampled_from([1, 2, 4, 8])),
        codec=draw(words),
        params=draw(objects),
        encoder=draw(st.none() | objects),
        codebook=draw(words),
        codebook_files=draw(st.dictionaries(words, sums, max_size=3)),
        segments=parts,
        next_segment=draw(counts),
        documents=sum(part.documents for part in parts),
        tokens=sum(part.tokens for part in parts),
    )


@given(manifests())
def test_what_is_written_comes_back(manifest: Manifest) -> None:
    stored = manifest.to_json()
    again = Manifest.from_json(stored, WHERE)
    assert again == manifest
    assert again.to_json() == stored


def test_a_manifest_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        MANIFEST.generation = 5  # type: ignore[misc]


def changed(**values: Any) -> bytes:
    return json.dumps(json.loads(MANIFEST.to_json()) | values).encode()


def test_a_newer_format_is_refused_by_name_whatever_else_it_holds() -> None:
    newer = json.dumps({"format_version": FORMAT_VERSION + 6}).encode()
    with pytest.raises(
        FormatTooNewError, match=f"format version {FORMAT_VERSION + 6}, .* reads up to {FORMAT_VERSION}"
    ):
        Manifest.from_json(newer, WHERE)


@pytest.mark.parametrize("name", sorted(json.loads(MANIFEST.to_json())))
def test_every_value_is_needed(name: str) -> None:
    value = json.loads(MANIFEST.to_json())
    del value[name]
    with pytest.raises(CorruptIndexError, match="data.mdb: expected a manifest"):
        Manifest.from_json(json.dumps(value).encode(), WHERE)


@pytest.mark.parametrize(
    "values",
    [
        {"generation": -1},
        {"generation": "4"},
        {"generation": True},
        {"generation": 4.0},
        {"dim": None},
        {"codec": 3},
        {"params": []},
        {"encoder": "minilm"},
        {"codebook_files": {"zarr.json": [1]}},
        {"codebook_files": {"zarr.json": [1, 2]}},
        {"segments": None},
        {"segments": [{}]},
        {"segments": [SEGMENT.to_json() | {"documents": -3}]},
        {"segments": [SEGMENT.to_json() | {"bytes_by_part": {}}]},
        {"segments": [SEGMENT.to_json() | {"files": {"zarr.json": 7}}]},
    ],
)
def test_values_of_another_kind_are_damage(values: dict[str, Any]) -> None:
    with pytest.raises(CorruptIndexError, match="data.mdb: expected a manifest"):
        Manifest.from_json(changed(**values), WHERE)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"3", b"\xff", b'{"format_version": null}'])
def test_what_is_no_object_is_damage(data: bytes) -> None:
    with pytest.raises(CorruptIndexError):
        Manifest.from_json(data, WHERE)


@pytest.mark.parametrize("values", [{"documents": 4}, {"tokens": 41}, {"segments": []}])
def test_the_sums_have_to_be_those_of_the_segments(values: dict[str, Any]) -> None:
    with pytest.raises(CorruptIndexError, match="documents and tokens"):
        Manifest.from_json(changed(**values), WHERE)


def test_equal_manifests_are_equal_bytes() -> None:
    other = replace(MANIFEST, params=dict(reversed([("bits", 2)])), codebook_files=dict(MANIFEST.codebook_files))
    assert other.to_json() == MANIFEST.to_json()


def test_a_segment_knows_its_size() -> None:
    assert SEGMENT.bytes == 30
