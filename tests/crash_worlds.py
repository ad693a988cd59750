"""What may be cut off at any moment, and what has to be true afterwards: the operations of `tests/test_crash_points.py`.

1. An operation begins in a folder of its own that `begin` fills, does its work there (`act`), and is looked at by `check`,
   whatever ended it.
2. *Changes* have an index in place: afterwards it opens, `verify` finds nothing harmful in it, and its answers are those of the
   generation before or of the one after, bit for bit; the next writer goes on, and leaves nothing behind. A build that was cut
   off is resumed. A damaged index answers nothing beforehand: the next repair ends as one that was not cut off.
3. *Transfers* (export, copy, import) make something new beside a source: not a byte of the source changes, the new thing is whole
   or not there, and the next attempt makes it, or says that it is there; either way nothing else stays behind.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from colindex import BuildParams, Document, Index, SearchParams
from colindex.errors import CorruptIndexError, IndexExistsError, IndexNotBuiltError, IndexNotFoundError
from colindex.exporting import copy_index, export_index
from colindex.importing import import_index
from colindex.repair import repair
from colindex.storage.lmdb_guard import LOCK_FILE
from colindex.storage.verify import verify_index
from tests.words import WordEncoder, documents

PARAMS = BuildParams(bits=8, segment_tokens=60, threads=1)
QUERIES = ["amber cedar rare7", "delta zephyr", "kelp rare3 rare20"]
NEW = [Document(id=f"new-{n}", text=f"amber kelp rare{n}") for n in range(3)]
INDEX = "index"
"""Where the index of an operation is, in its folder."""

Answers = tuple[int, list[list[tuple[str, float, str]]]]
"""The generation, and for each query every document with its score and text."""


def opened(path: Path) -> Index:
    return Index.open(path, encoder=WordEncoder(), memory="64MiB")


def answers(path: Path) -> Answers | None:
    """Everything, exactly; None where there is no index, or one that cannot be read."""
    try:
        with opened(path) as index:
            hits = index.search_batch(QUERIES, 100, params=SearchParams(exact=True))
            found = [sorted((hit.id, hit.score, hit.document.text) for hit in each) for each in hits]
            return index.manifest.generation, found
    except (IndexNotBuiltError, IndexNotFoundError, CorruptIndexError):
        return None


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file but LMDB's table of readers."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != LOCK_FILE}


class Operation(ABC):
    """One operation, in a folder that is its own."""

    decisive = "commit"
    """The step from which on it is done: the first `commit`, or the last `replace`."""

    @abstractmethod
    def begin(self, folder: Path) -> None:
        """Put there what the operation begins with; the folder is empty."""

    @abstractmethod
    def act(self, folder: Path) -> None:
        """Do it."""

    @abstractmethod
    def answers(self, folder: Path) -> Answers | None:
        """What there is answers; None where there is nothing that does."""

    @abstractmethod
    def check(self, folder: Path, before: Answers | None, after: Answers | None) -> bool:
        """Whatever ended it, all is well, and goes on; whether it was done.

        Args:
            folder: its own.
            before: the answers in the beginning.
            after: the answers of what it makes.
        """

    def decided(self, log: Sequence[str]) -> int:
        """The number of the decisive step among the kinds of all steps."""
        return log.index("commit") if self.decisive == "commit" else len(log) - 1 - list(log)[::-1].index("replace")


# ---- changes of an index that is there


@dataclass(frozen=True)
class Change(Operation):
    """An operation on the index in its folder."""

    make: Callable[[Path], None]
    """Makes the index that it begins with."""
    change: Callable[[Path], object]
    again: bool = False
    """Whether it is to be done again where it was cut off."""
    decisive: str = "commit"

    def begin(self, folder: Path) -> None:
        self.make(folder / INDEX)

    def act(self, folder: Path) -> None:
        self.change(folder / INDEX)

    def answers(self, folder: Path) -> Answers | None:
        return answers(folder / INDEX)

    def check(self, folder: Path, before: Answers | None, after: Answers | None) -> bool:
        path = folder / INDEX
        found = answers(path)
        done = found == after
        assert done or found == before
        if found is not None:
            assert [finding for finding in verify_index(path) if not finding.harmless] == []
        if (self.again and not done) or (path / "staging" / "state.json").exists():
            self.act(folder)
            assert answers(path) == after
        with opened(path) as index:
            index.delete(["doc-2"])
            assert "doc-2" not in index
        assert verify_index(path) == []
        return done


def nothing(path: Path) -> None:
    """There is no index yet."""


def build(path: Path) -> None:
    """Anew, or from where an earlier attempt ended."""
    Index.build(path, documents(14), WordEncoder(), PARAMS, resume=(path / "staging" / "state.json").exists())


def living(path: Path) -> None:
    """Two generations: the second has tombstones of the first one's segments, and a segment of its own."""
    build(path)
    with opened(path) as index:
        index.upsert([Document(id="doc-5", text="cedar"), Document(id="more", text="delta delta")])


def damaged(path: Path) -> None:
    """A text is damaged, and so are the tombstones."""
    living(path)
    (texts,) = path.glob("segments/000001.zarr/documents/bytes/c/0")
    flip(texts, 0.8)
    (tombstones,) = (file for file in path.glob("tombstones/*/**/c/*") if file.is_file())
    flip(tombstones, 0.0)


def without_catalog(path: Path) -> None:
    """The catalog cannot be opened, and the copy of the manifest can."""
    living(path)
    flip(path / "catalog.lmdb" / "data.mdb", 0.0)


def flip(path: Path, place: float) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 16
    path.write_bytes(data)


def add(path: Path) -> None:
    with opened(path) as index:
        index.add(NEW)


def upsert(path: Path) -> None:
    with opened(path) as index:
        index.upsert([*NEW, Document(id="doc-3", text="kelp"), Document(id="doc-9", text="amber")])


def delete(path: Path) -> None:
    with opened(path) as index:
        index.delete(["doc-1", "doc-8", "doc-12"])


def compact(path: Path) -> None:
    with opened(path) as index:
        index.compact(full=True)


def retrain(path: Path) -> None:
    """From the texts."""
    with opened(path) as index:
        index.compact(retrain=True)


def retrain_vectors(path: Path) -> None:
    """From what is stored, without the encoder."""
    with Index.open(path, memory="64MiB") as index:
        index.compact(retrain=True)


# ---- something new beside a source


@dataclass(frozen=True)
class Transfer(Operation):
    """An operation that makes something of an index, or an index of something."""

    source: str
    target: str
    transfer: Callable[[Path, Path], object]
    export: Callable[[Path, Path], object] | None = None
    """Makes the source of the index; None where it is the index itself."""
    decisive: str = "replace"

    def begin(self, folder: Path) -> None:
        living(folder / INDEX)
        if self.export is not None:
            self.export(folder / INDEX, folder / self.source)
            shutil.rmtree(folder / INDEX)

    def act(self, folder: Path) -> None:
        self.transfer(folder / self.source, folder / self.target)

    def answers(self, folder: Path) -> Answers | None:
        """Those of the new index, or of the one that an import makes of the new export."""
        target = folder / self.target
        if not os.path.lexists(target):
            return None
        if (target / "catalog.lmdb").exists():
            assert verify_index(target) == []
            return answers(target)
        imported = folder.parent / "imported"
        import_index(target, imported)
        try:
            return answers(imported)
        finally:
            shutil.rmtree(imported)

    def check(self, folder: Path, before: Answers | None, after: Answers | None) -> bool:
        found = self.answers(folder)
        done = found is not None
        assert found in (before, after)
        source = self._source(folder)
        if done:
            with pytest.raises(IndexExistsError):
                self.act(folder)
        else:
            self.act(folder)
            assert self.answers(folder) == after
        assert sorted(child.name for child in folder.iterdir()) == sorted([self.source, self.target])
        assert self._source(folder) == source
        return done

    def _source(self, folder: Path) -> dict[Path, bytes]:
        path = folder / self.source
        if path.is_file():
            return {path: path.read_bytes()}
        if self.export is None:
            assert verify_index(path) == []
        return contents(path)


OPERATIONS: dict[str, Operation] = {
    "build": Change(nothing, build, again=True),
    "add": Change(living, add),
    "upsert": Change(living, upsert),
    "delete": Change(living, delete),
    "compact": Change(living, compact),
    "retrain": Change(living, retrain),
    "retrain-vectors": Change(living, retrain_vectors),
    "repair": Change(damaged, repair, again=True),
    "repair-catalog": Change(without_catalog, repair, again=True, decisive="replace"),
    "export": Transfer(INDEX, "new", export_index),
    "export-archive": Transfer(INDEX, "new.tar.zst", export_index),
    "copy": Transfer(INDEX, "new", copy_index),
    "import": Transfer("export", INDEX, import_index, export_index),
    "import-archive": Transfer("export.tar.zst", INDEX, import_index, export_index),
}


# ---- all of them in one place


@dataclass
class World:
    """A folder in which every operation has its beginning, and what it makes of it."""

    folder: Path
    _made: dict[str, tuple[Answers | None, Answers | None]] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Where operations work, one after the other."""
        return self.folder / "work" / "now"

    def copy(self, name: str) -> Path:
        """`work`, with nothing in it but what an operation begins with."""
        self.ends(name)
        shutil.rmtree(self.work, ignore_errors=True)
        return Path(shutil.copytree(self.folder / name, self.work))

    def ends(self, name: str) -> tuple[Answers | None, Answers | None]:
        """The answers before and after an operation that nothing disturbs."""
        if name not in self._made:
            operation, beginning = OPERATIONS[name], self.folder / name
            beginning.mkdir(parents=True)
            operation.begin(beginning)
            before = operation.answers(beginning)
            undisturbed = shutil.copytree(beginning, self.folder / "work" / name)
            operation.act(undisturbed)
            self._made[name] = before, operation.answers(undisturbed)
            assert self._made[name][0] != self._made[name][1]
            assert operation.check(undisturbed, *self._made[name])
            shutil.rmtree(undisturbed)
        return self._made[name]

    def check(self, name: str, folder: Path) -> bool:
        """`Operation.check`."""
        return OPERATIONS[name].check(folder, *self.ends(name))
