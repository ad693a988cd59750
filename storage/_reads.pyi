"""What storage/native/module.cpp offers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Counters = tuple[int, int, int, int, int, int, int]
_Int64s = npt.NDArray[np.int64]

def has_ring() -> bool: ...
def checksum(block: bytes) -> int: ...

class Fetcher:
    def __init__(
        self,
        engine: str,
        table: Mapping[str, npt.NDArray[Any]],
        arena: npt.NDArray[np.uint8],
        checksums: Sequence[npt.NDArray[np.uint32]],
        files: Sequence[tuple[int, int, int, bool]],
        frames: int,
        prefetch_limit: int,
        stale_fetches: int,
    ) -> None: ...
    def fetch(
        self, starts: _Int64s, ends: _Int64s
    ) -> tuple[npt.NDArray[np.uint8], _Counters, tuple[int, int, int, int, int, int] | None]: ...
    def prefetch(self, starts: _Int64s, ends: _Int64s) -> int: ...
    def forget(self, starts: _Int64s, ends: _Int64s) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> tuple[bool, _Counters]: ...
    def counters(self) -> _Counters: ...
    @property
    def pending(self) -> int: ...
    @property
    def engine(self) -> str: ...
