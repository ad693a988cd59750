"""The copy of the manifest: after each commit it says what the catalog says, and no byte of it can change unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colindex.storage.catalog import Catalog
from colindex.storage.errors import CorruptIndexError, FormatTooNewError
from colindex.storage.lock import WriterLock
from colindex.storage.manifest_copy import COPY, read_manifest_copy
from colindex.storage.verify import verify_index
from tests.storage.samples import add_segment, write_index

LENGTHS = (3, 2)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    write_index(tmp_path / "index", LENGTHS)
    return tmp_path / "index"


def committed(index: Path) -> object:
    with Catalog.open_reader(index) as catalog:
        return catalog.manifest()


def test_each_commit_writes_it(index: Path) -> None:
    assert read_manifest_copy(index) == committed(index)
    with WriterLock(index), Catalog.open_writer(index) as catalog:
        following = add_segment(index, catalog, catalog.manifest(), LENGTHS)
    assert read_manifest_copy(index) == following
    assert json.loads((index / COPY).read_text())["manifest"]["generation"] == 2
    assert verify_index(index) == []


def test_every_flipped_byte_is_a_finding(index: Path) -> None:
    sound = (index / COPY).read_bytes()
    for place in range(0, len(sound), 37):
        for bit in (1, 32):
            data = bytearray(sound)
            data[place] ^= bit
            (index / COPY).write_bytes(data)
            with pytest.raises(CorruptIndexError, match="the next writer writes it anew"):
                read_manifest_copy(index)
    assert [finding.kind for finding in verify_index(index)] == ["copy"]


@pytest.mark.parametrize("harm", ["damaged", "gone", "older"])
def test_the_next_writer_writes_it_anew(index: Path, harm: str) -> None:
    older = (index / COPY).read_bytes()
    with WriterLock(index), Catalog.open_writer(index) as catalog:
        add_segment(index, catalog, catalog.manifest(), LENGTHS)
    (index / COPY).unlink() if harm == "gone" else (index / COPY).write_bytes(older[: None if harm == "older" else 50])
    expected = {"damaged": ["copy"], "gone": [], "older": ["unexpected"]}[harm]
    assert [finding.kind for finding in verify_index(index)] == expected
    assert (read_manifest_copy(index) if harm == "gone" else None) is None
    with WriterLock(index), Catalog.open_writer(index):
        pass
    assert read_manifest_copy(index) == committed(index)
    assert verify_index(index) == []


def test_a_newer_format_is_refused_by_its_number(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colindex.storage.manifest.FORMAT_VERSION", 0)
    with pytest.raises(FormatTooNewError):
        read_manifest_copy(index)
