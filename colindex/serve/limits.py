"""Bounds on what one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass

from colindex.errors import ParameterError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server grants; more is refused with a status that says so."""

    body_bytes: int = 1 << 20
    """A longer body is refused with 413."""
    seconds: float = 30.0
    """A request that has not been answered by then is, with 504; a body that has not arrived is, with 408."""
    running: int = 2
    """Calls of the index at the same time."""
    waiting: int = 32
    """Requests that wait for one of those; further ones are refused with 503."""

    def __post_init__(self) -> None:
        for name, least in (("body_bytes", 1), ("running", 1), ("waiting", 0)):
            if getattr(self, name) < least:
                raise ParameterError(f"{name}: expected {least} or more, got {getattr(self, name)}.")
        if not self.seconds > 0:
            raise ParameterError(f"seconds: expected more than 0, got {self.seconds}.")
