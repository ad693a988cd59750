"""A disk that goes wrong, or a process that is killed, at each step of each operation in turn.

1. The operations, and what must be true after each of them however it ended: `tests/crash_worlds.py`.
2. *Failing*: an `Operations` that counts steps (file made, write, fsync, rename, LMDB commit) goes wrong at one of them: it does
   nothing, or half of it, and all later steps fail.
3. *Killing*: a forked child ends itself by SIGKILL at a step, or at any other moment at which it makes, renames or removes a file
   or a folder: in the spool, in the removing of what is left over. Nothing of it runs after that.
4. Then all is as before or as after, and the next attempt goes on.

`pytest tests/test_crash_points.py --every-step` (`make crash`) leaves no step out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash_worlds import OPERATIONS, Change, Operation, Transfer, World
from tests.faults import CountingOperations, Failure, FaultyOperations, fast_folder, using


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = (fast_folder() or tmp_path_factory.getbasetemp()) / f"crash-points-{os.getpid()}"
    yield World(folder)
    shutil.rmtree(folder)


def steps(world: World, name: str) -> list[str]:
    """The kinds of all steps of an operation."""
    disk, folder = CountingOperations(), world.copy(name)
    with using(disk):
        OPERATIONS[name].act(folder)
    return disk.log


@pytest.mark.parametrize("torn", [False, True], ids=["fails", "tears"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_step_may_go_wrong(world: World, request: pytest.FixtureRequest, name: str, torn: bool) -> None:
    log = steps(world, name)
    every, decisive = range(len(log)), OPERATIONS[name].decided(log)
    chosen = set(every[int(torn) :: len(log) // 4]) | set(every[decisive - 2 + torn :: 2]) | {decisive}
    if request.config.getoption("every_step"):
        chosen = set(every)
    for at in sorted(chosen):
        folder = world.copy(name)
        disk = FaultyOperations(at, torn=torn, dead=True, folder=folder)
        with using(disk), pytest.raises(Failure):
            OPERATIONS[name].act(folder)
        assert disk.log[at] == log[at]
        assert world.check(name, folder) == (at > decisive), (at, log[at])
    sys.stdout.write(f"{name} {'torn' if torn else 'failed'} at {len(chosen)} of {len(log)} steps\n")


_KILLS = "import sys; from tests.test_crash_points import kill_everywhere; kill_everywhere(*sys.argv[1:])"


@pytest.mark.parametrize("kind", [Change, Transfer])
def test_a_process_may_be_killed_anywhere(
    tmp_path: Path, request: pytest.FixtureRequest, kind: type[Operation]
) -> None:
    """In a process without threads of others, which forks a child for each moment."""
    every_step = request.config.getoption("every_step")
    names = [name for name, operation in OPERATIONS.items() if isinstance(operation, kind)]
    done = subprocess.run(
        [sys.executable, "-c", _KILLS, str(fast_folder() or tmp_path), "1" if every_step else "83", *names],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)
    killed = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(killed) == len(names)
    assert min(killed) >= (25 if every_step else 1)


class KillingOperations(CountingOperations):
    """Ends the process at one moment: before a step or half way in it, or before a call that changes a folder."""

    CALLS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})

    def __init__(self, at: int, folder: Path, torn: bool) -> None:
        super().__init__(folder)
        self.at, self.torn, self.moments = at, torn, 0
        sys.addaudithook(self.heard)

    def heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in self.CALLS or (event == "open" and arguments[2] is not None and not _writes(arguments[2])):
            return
        if str(self.folder) in str(arguments[0]) or event in ("os.remove", "os.rmdir"):
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


def kill_everywhere(base: str, stride: str, *names: str) -> None:
    """Kill each operation at every `stride`th moment; prints how often each was killed."""
    with tempfile.TemporaryDirectory(prefix="killed-", dir=base) as folder:
        world = World(Path(folder))
        for number, name in enumerate(names):
            killed, at = 0, number
            while _killed(world.copy(name), name, at):
                world.check(name, world.work)
                killed, at = killed + 1, at + int(stride)
            assert world.check(name, world.work), "it was left to finish"
            sys.stdout.write(f"{name} killed at {killed}\n")


def _killed(folder: Path, name: str, at: int) -> bool:
    """Whether a child that does the operation had got as far as moment `at`, and so no further."""
    child = os.fork()
    if child == 0:
        try:
            with using(KillingOperations(at, folder, torn=at % 2 == 1)):
                OPERATIONS[name].act(folder)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"{name} at {at}: status {status}"
    return status == signal.SIGKILL
