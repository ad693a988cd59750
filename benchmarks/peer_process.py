"""The driver's end of a worker: start it, ask it, give up on it (`peer_worker` is the other end).

A worker that crashes, runs out of time or answers with an error raises `PeerError`, whose text is the row's reason.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

from benchmarks.peer_contestants import Contestant

__all__ = ["PeerError", "TimeLimitError", "Worker"]

ROOT = Path(__file__).resolve().parents[1]
POOLS = ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMEXPR", "VECLIB")


class PeerError(Exception):
    """A peer could not do it; the text says why."""


class TimeLimitError(PeerError):
    """It took longer than it was given."""


def environment(threads: int) -> dict[str, str]:
    """The environment of a worker: every pool that reads its size from there gets the same."""
    pools = {f"{pool}_NUM_THREADS": str(threads) for pool in POOLS}
    pools |= {"LANCE_CPU_THREADS": str(threads), "TOKIO_WORKER_THREADS": str(threads)}
    return {**os.environ, **pools, "CUDA_VISIBLE_DEVICES": "", "LANCEDB_LOG": "error", "RUST_LOG": "error"}


class Worker:
    """One process. What it prints besides its answers goes to `log`."""

    def __init__(
        self, contestant: Contestant, role: str, python: Path, data: Path, index: Path, threads: int, log: Path
    ) -> None:
        """Start it.

        Raises:
            PeerError: there is no such Python.
        """
        settings = json.dumps(dict(contestant.build))
        command = [python, "-m", "benchmarks.peer_worker", contestant.engine, role, data, index, str(threads), settings]
        try:
            with log.open("a", encoding="utf-8") as errors:
                self._process = subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    cwd=ROOT,
                    env=environment(threads),
                    start_new_session=True,  # so that what it starts can be ended with it
                )
        except OSError as error:
            raise PeerError(
                f"{python} does not start ({error.strerror}); `make bench-peers` makes the peers' venv"
            ) from error
        self._log = log

    def hear(self, limit: float) -> dict[str, Any]:
        """The next answer, within `limit` seconds.

        Raises:
            PeerError: it ended, or answered that it failed.
            TimeLimitError: it did not answer in time; it is ended.
        """
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            self._kill()

        assert self._process.stdout is not None
        timer = Timer(limit, give_up)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if late:
            raise TimeLimitError(f"not done after {limit:,.0f} s")
        if not line:
            log = f"{self._log.parent.name}/{self._log.name}"
            raise PeerError(
                f"the process ended with {_ending(self._process.wait())}; the scratch folder's {log} has more"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def ask(
        self, queries: Sequence[int], k: int, settings: Mapping[str, Any], limit: float, steady: float = 0.0
    ) -> dict[str, Any]:
        """Seconds and document numbers for these queries, measured as `peer_worker` says.

        Raises:
            PeerError: as `hear`.
        """
        assert self._process.stdin is not None
        request = {"queries": list(queries), "k": k, "settings": dict(settings), "steady": steady}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: `hear` says how
        return self.hear(limit)

    def close(self) -> None:
        """End it."""
        self._kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ending(code: int) -> str:
    """An exit code in words.

    >>> _ending(-9), _ending(3)
    ('signal SIGKILL', 'code 3')
    """
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
