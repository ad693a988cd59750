"""The bodies of the kernels that run here: the reference, and the native one with each instruction set of this machine.

    @each_body
    def test_something(body: Body) -> None:
        ids, scores = body.top_centroids(query, table, 8)

Where the extension was not built, native bodies are skipped, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import pytest

from colindex.kernels import chosen, reference

__all__ = ["BODIES", "NATIVE", "SETS", "Body", "each_body", "each_native", "needs_native"]

NATIVE = chosen.top_centroids is not reference.top_centroids
SETS: list[str] = import_module("colindex.kernels.native._native").instruction_sets() if NATIVE else []
_MODULES = tuple(f"colindex.kernels.native.{name}" for name in ("search", "refine", "build"))


@dataclass(frozen=True)
class Body:
    """One body of the kernels; its attributes are the kernels."""

    instruction_set: str | None
    """What the native body runs with; None is the reference."""

    def __str__(self) -> str:
        return self.instruction_set or "reference"

    def __getattr__(self, kernel: str) -> Callable[..., Any]:
        if self.instruction_set is None:
            return getattr(reference, kernel)  # type: ignore[no-any-return]
        found = (getattr(import_module(name), kernel, None) for name in _MODULES)
        function = next((function for function in found if function is not None), None)
        if function is None:
            raise AttributeError(f"no native kernel {kernel!r}")
        return partial(self._run, function)

    def _run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with self.in_use():
            return function(*arguments, **named)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Leaves the instruction set as it was; threads have to be inside of one `with` together."""
        if self.instruction_set is None:
            yield
            return
        native: Any = import_module("colindex.kernels.native._native")
        before = native.instruction_set()
        native.use_instruction_set(self.instruction_set)
        try:
            yield
        finally:
            native.use_instruction_set(before)


BODIES = [Body(None), *map(Body, SETS)]
_NOT_BUILT = pytest.mark.skip("the native kernels are not built here")
needs_native = pytest.mark.skipif(not NATIVE, reason="the native kernels are not built here")
_native_bodies = [*map(Body, SETS)] if NATIVE else [pytest.param(Body("native"), marks=_NOT_BUILT)]
each_native = pytest.mark.parametrize("body", _native_bodies, ids=str)
each_body = pytest.mark.parametrize("body", [Body(None), *_native_bodies], ids=str)
