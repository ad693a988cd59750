"""Problems: every error as one JSON object, as RFC 9457 describes it.

{"type": "about:blank", "title", "status", "detail",
 "error": name of the class in `colindex.errors`, where it is one of those,
 "field": the part of the request that is wrong, where one is known}

1. What the user handed in is 400, an id that the index does not hold 404; the message is the library's.
2. What the server refuses (`RefusedError`) has a status of its own.
3. Everything else is the server's fault: 500.
"""

from __future__ import annotations

from typing import Any

from colindex.errors import (
    ColindexError,
    DocumentNotFoundError,
    FilterError,
    InputError,
    InvalidIdError,
    ParameterError,
)

__all__ = ["MEDIA_TYPE", "TITLES", "RefusedError", "problem", "problem_of"]

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    413: "Request too large",
    421: "Misdirected request",
    422: "Invalid request",
    500: "Internal error",
    503: "Busy",
    504: "Out of time",
}


class RefusedError(Exception):
    """A request that the server does not serve; never leaves the package."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    """The object of an error."""
    title = TITLES.get(status, "Error")
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}


def problem_of(error: ColindexError) -> dict[str, Any]:
    """The object of an error of colindex."""
    name = type(error).__name__
    if isinstance(error, DocumentNotFoundError):
        return problem(404, str(error), error=name, field="id")
    if isinstance(error, FilterError):
        return problem(400, str(error), error=name, field="where")
    if isinstance(error, InputError | ParameterError | InvalidIdError):
        return problem(400, str(error), error=name)
    return problem(500, str(error), error=name)
