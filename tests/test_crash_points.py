"""A disk that goes wrong, or a process that is killed, at each step of each operation in turn.

1. Each operation changes a small index of two generations, with tombstones; a build makes one anew.
2. *Failing*: an `Operations` that counts steps (file made, write, fsync, rename, LMDB commit) goes wrong at one of them: it does
   nothing, or half of it, and all later steps fail.
3. *Killing*: a forked child ends itself by SIGKILL at a step, or at any other moment at which it makes, renames or removes a file
   or a folder: in the spool, in the removing of what is left over. Nothing of it runs after that.
4. Then the index opens, `verify` finds nothing harmful, and answers are those of the generation before or of the one after, bit
   for bit; and the next writer goes on, and leaves nothing behind. A build that was cut off is resumed.

`pytest tests/test_crash_points.py --every-step` (`make crash`) leaves no step out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from colindex import BuildParams, Document, Index, SearchParams
from colindex.errors import IndexNotBuiltError, IndexNotFoundError
from colindex.storage.verify import verify_index
from tests.faults import CountingOperations, Failure, FaultyOperations, fast_folder, using
from tests.words import WordEncoder, documents

PARAMS = BuildParams(bits=8, segment_tokens=60, threads=1)
QUERIES = ["amber cedar rare7", "delta zephyr", "kelp rare3 rare20"]
NEW = [Document(id=f"new-{n}", text=f"amber kelp rare{n}") for n in range(3)]

Answers = list[list[tuple[str, float, str]]]


def opened(path: Path) -> Index:
    return Index.open(path, encoder=WordEncoder(), memory="64MiB")


def build(path: Path) -> None:
    """Anew, or from where an earlier attempt ended."""
    Index.build(path, documents(14), WordEncoder(), PARAMS, resume=(path / "staging" / "state.json").exists())


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


CHANGES: dict[str, Callable[[Path], None]] = {"add": add, "upsert": upsert, "delete": delete, "compact": compact}
OPERATIONS = {"build": build} | CHANGES


def answers(path: Path) -> Answers | None:
    """Everything, exactly; None where there is no index."""
    try:
        with opened(path) as index:
            hits = index.search_batch(QUERIES, 100, params=SearchParams(exact=True))
            return [sorted((hit.id, hit.score, hit.document.text) for hit in found) for found in hits]
    except (IndexNotBuiltError, IndexNotFoundError):
        return None


@dataclass(frozen=True)
class World:
    """An index, and what it answers before and after each operation."""

    folder: Path

    @classmethod
    def made_in(cls, folder: Path) -> World:
        """Two generations: the second has tombstones of the first one's segments, and a segment of its own."""
        start = folder / "start"
        build(start)
        with opened(start) as index:
            index.upsert([Document(id="doc-5", text="cedar"), Document(id="more", text="delta delta")])
        for name, act in OPERATIONS.items():
            if name in CHANGES:
                shutil.copytree(start, folder / name)
            act(folder / name)
        return cls(folder)

    def copy(self, operation: str) -> Path:
        """A fresh folder for an operation to change."""
        path = self.folder / "copy"
        shutil.rmtree(path, ignore_errors=True)
        if operation in CHANGES:
            shutil.copytree(self.folder / "start", path)
        return path

    @cache  # noqa: B019 - a few worlds in all
    def before(self, operation: str) -> Answers | None:
        return answers(self.folder / "start") if operation in CHANGES else None

    @cache  # noqa: B019
    def after(self, operation: str) -> Answers | None:
        return answers(self.folder / operation)

    def check(self, operation: str, path: Path) -> bool:
        """Step 4; whether the answers are those after the operation."""
        found = answers(path)
        done = found == self.after(operation)
        assert done or found == self.before(operation)
        if found is not None:
            assert [finding for finding in verify_index(path) if not finding.harmless] == []
        if (operation == "build" and not done) or (path / "staging" / "state.json").exists():
            build(path)
            assert answers(path) == self.after(operation)
        with opened(path) as index:
            index.delete(["doc-2"])
            assert "doc-2" not in index
        assert verify_index(path) == []
        return done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = (fast_folder() or tmp_path_factory.getbasetemp()) / f"crash-points-{os.getpid()}"
    yield World.made_in(folder)
    shutil.rmtree(folder)


def steps(world: World, operation: str) -> list[str]:
    """The kinds of all steps of an operation."""
    disk = CountingOperations()
    path = world.copy(operation)
    with using(disk):
        OPERATIONS[operation](path)
    return disk.log


@pytest.mark.parametrize("torn", [False, True], ids=["fails", "tears"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_step_may_go_wrong(world: World, request: pytest.FixtureRequest, operation: str, torn: bool) -> None:
    log = steps(world, operation)
    commit = log.index("commit")
    every = range(len(log))
    chosen = set(every if request.config.getoption("every_step") else every[int(torn) :: len(log) // 5])
    for at in sorted(chosen | set(range(commit - 2, len(log)))):
        path = world.copy(operation)
        disk = FaultyOperations(at, torn=torn, dead=True, index_path=path)
        with using(disk), pytest.raises(Failure):
            OPERATIONS[operation](path)
        assert disk.log[at] == log[at]
        changes = world.before(operation) != world.after(operation)  # compacting does not
        assert world.check(operation, path) == (at > commit or not changes), (at, log[at])


_KILLS = "import sys; from tests.test_crash_points import kill_everywhere; kill_everywhere(*sys.argv[1:])"


def test_a_process_may_be_killed_anywhere(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In a process without threads of others, which forks a child for each moment."""
    stride = 1 if request.config.getoption("every_step") else 45
    done = subprocess.run(
        [sys.executable, "-c", _KILLS, str(fast_folder() or tmp_path), str(stride)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sys.stdout.write(f"killed at {done.stdout}")
    assert int(done.stdout) >= (500 if stride == 1 else 20)


class KillingOperations(CountingOperations):
    """Ends the process at one moment: before a step or half way in it, or before a call that changes a folder."""

    CALLS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})

    def __init__(self, at: int, index_path: Path, torn: bool) -> None:
        super().__init__(index_path)
        self.at, self.torn, self.moments = at, torn, 0
        sys.addaudithook(self.heard)

    def heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in self.CALLS or (event == "open" and arguments[2] is not None and not _writes(arguments[2])):
            return
        if str(self.index_path) in str(arguments[0]) or event in ("os.remove", "os.rmdir"):
            self.moment(lambda: None)

    def reached(self, number: int, kind: str, tear: Callable[[], None]) -> None:
        self.moment(tear)

    def moment(self, tear: Callable[[], None]) -> None:
        number, self.moments = self.moments, self.moments + 1
        if number == self.at:
            if self.torn:
                tear()
            os.kill(os.getpid(), signal.SIGKILL)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def kill_everywhere(folder: str, stride: str) -> None:
    """Kill each operation at every `stride`th moment; prints how many were killed."""
    base = Path(folder, f"killed-{os.getpid()}")
    world, killed = World.made_in(base), 0
    for number, operation in enumerate(OPERATIONS):
        at = number
        while True:
            path = world.copy(operation)
            if not _killed(path, operation, at):
                break
            world.check(operation, path)
            killed, at = killed + 1, at + int(stride)
        assert world.check(operation, path), "it was left to finish"
    shutil.rmtree(base)
    sys.stdout.write(f"{killed}\n")


def _killed(path: Path, operation: str, at: int) -> bool:
    """Whether a child that does the operation had got as far as moment `at`, and so no further."""
    child = os.fork()
    if child == 0:
        try:
            with using(KillingOperations(at, path, torn=at % 2 == 1)):
                OPERATIONS[operation](path)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"{operation} at {at}: status {status}"
    return status == signal.SIGKILL
