"""Work: calls of the index, in threads, within limits.

1. *Enter*, if there is a place: so many calls run, so many wait; further ones are refused at once.
2. *Run* in a thread. NumPy, the kernels and the encoder let go of the interpreter's lock, so the event loop stays free.
3. *Wait* no longer than the limit. A call that waits is then cancelled. One that runs cannot be: it keeps its place until it
   ends, so that calls given up never pile up beyond the limit.
4. *Close*: finish what runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

from colindex.serve.limits import Limits
from colindex.serve.problems import RefusedError

__all__ = ["Work"]

Result = TypeVar("Result")


class Work:
    """Threads that call the index."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads: ThreadPoolExecutor | None = None
        self._places = BoundedSemaphore(limits.running + limits.waiting)

    def open(self) -> None:
        """Take calls, until `close`."""
        self._threads = ThreadPoolExecutor(self._limits.running, "colindex-serve")

    async def run(self, call: Callable[[], Result]) -> Result:
        """What a call gives.

        Raises:
            RefusedError: there is no place (503), or it takes too long (504).
        """
        if self._threads is None:
            raise RefusedError(503, "The server is starting or stopping; try again in a moment.")
        if not self._places.acquire(blocking=False):
            raise RefusedError(
                503, f"Expected at most {self._limits.waiting} requests to wait, and they do; try again in a moment."
            )
        task = self._threads.submit(call)
        task.add_done_callback(self._leave)
        future = asyncio.wrap_future(task)
        done, _ = await asyncio.wait({future}, timeout=self._limits.seconds)
        if not done:
            future.cancel()
            raise RefusedError(
                504,
                f"Expected an answer within {self._limits.seconds:g} s, got none; ask for less (k, candidates, exact), "
                "or try again when the server is less busy.",
            )
        return future.result()

    def close(self) -> None:
        """Finish what runs; cancel what waits."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(cancel_futures=True)

    def _leave(self, _: Future[Result]) -> None:
        self._places.release()
