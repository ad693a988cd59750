"""Disks that go wrong at a chosen step, for tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from colindex.storage import directory
from colindex.storage.directory import Operations
from colindex.storage.lmdb_guard import DATA

META_PAGES = 2 * 4096
"""Bytes of the two meta pages that an LMDB file begins with."""


class Failure(OSError):
    """The step that was made to fail."""


class CountingOperations(Operations):
    """Counts the steps of some kinds, and calls `reached` before each with its number, its kind and how to do half of it.

    Args:
        folder: commits of catalogs below it can be torn; None where that is not wanted.
        kinds: which steps count; all of them by default.
    """

    def __init__(self, folder: Path | None = None, kinds: Collection[str] = ()) -> None:
        self.folder, self.kinds = folder, kinds
        self.log: list[str] = []

    def reached(self, number: int, kind: str, tear: Callable[[], None]) -> None:
        """One step is about to be done."""

    def passed(self, kind: str) -> None:
        """One step that does not count is about to be done."""

    def _step(self, kind: str, tear: Callable[[], None] = lambda: None) -> None:
        if self.kinds and kind not in self.kinds:
            self.passed(kind)
            return
        self.log.append(kind)
        self.reached(len(self.log) - 1, kind, tear)

    def create(self, path: Path) -> int:
        self._step("create")
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> None:
        half = data[: len(data) // 2]
        self._step("write", lambda: Operations.write(self, descriptor, half))
        super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._step("fsync")
        super().fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        super().replace(source, target)

    def commit(self, act: Callable[[], None]) -> None:
        self._step("commit", lambda: self._tear_commit(act))
        super().commit(act)

    def _tear_commit(self, act: Callable[[], None]) -> None:
        """LMDB writes a transaction's pages, and then one of the two meta pages: leave it at the former."""
        if self.folder is None:
            return
        before = {data: data.read_bytes()[:META_PAGES] for data in self.folder.rglob(DATA)}
        act()
        for data, metas in before.items():  # one of them is being committed, the others stay as they are
            with data.open("r+b", buffering=0) as file:
                file.write(metas)


class FaultyOperations(CountingOperations):
    """Goes wrong at one step.

    Args:
        at: number of the step that goes wrong, from 0.
        torn: a write that goes wrong leaves half of its bytes, a commit its pages without the meta page; otherwise nothing.
        dead: every later step fails too, as for a process that has ended.
        folder: as for `CountingOperations`. Only where no handle of the index is open: LMDB shares its state between them.
        kinds: which steps count; all of them by default.
    """

    def __init__(
        self,
        at: int,
        *,
        torn: bool = False,
        dead: bool = False,
        folder: Path | None = None,
        kinds: Collection[str] = (),
    ) -> None:
        super().__init__(folder, kinds)
        self.at, self.torn, self.dead = at, torn, dead

    @property
    def failed(self) -> bool:
        """Whether it has gone wrong."""
        return len(self.log) > self.at >= 0

    def reached(self, number: int, kind: str, tear: Callable[[], None]) -> None:
        if number == self.at:
            if self.torn:
                tear()
            raise Failure(f"step {number}, {kind}, on purpose")
        self.passed(kind)

    def passed(self, kind: str) -> None:
        if self.dead and self.failed:
            raise Failure(f"{kind} after the end")


@contextmanager
def using(operations: Operations) -> Iterator[None]:
    """Everything that storage writes goes through these operations meanwhile."""
    before, directory.operations = directory.operations, operations
    try:
        yield
    finally:
        directory.operations = before


def fast_folder() -> Path | None:
    """A disk in memory, where the system has one: for tests that write much and wait for no disk."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None
