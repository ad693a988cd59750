"""The routes. This is the one module that imports FastAPI.

    POST /api/search                 hits with snippets, the time of each stage, counters
    GET, POST /api/inspect           a match, as `Match.to_dict`
    POST /api/explain                what became of a document, and settings that bring it in
    GET /api/index                   the index in figures, and the columns of its metadata
    GET /health, /metrics            for whoever watches the server
    GET /openapi.json                all of this, described
    GET /, /static/..., /match       the page, its files, and a match as HTML

1. What goes in is validated by `shapes`; the index is asked by `answers`, in the threads of `work`.
2. Every error is a problem object. None repeats more of the input than the library's message does.
3. A match as HTML is a document of its own, in a sandbox: it holds the script of `colindex.views` and texts of strangers.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import colindex
from colindex.errors import ColindexError
from colindex.index import Index
from colindex.serve import answers
from colindex.serve.guard import HEADERS, Guard
from colindex.serve.limits import Limits
from colindex.serve.metrics import MEDIA_TYPE as METRICS_TYPE
from colindex.serve.metrics import Measured, Metrics
from colindex.serve.problems import MEDIA_TYPE, TITLES, RefusedError, problem, problem_of
from colindex.serve.shapes import (
    Explained,
    ExplainForm,
    Found,
    Health,
    IndexFacts,
    InspectForm,
    MatchData,
    Problem,
    SearchForm,
)
from colindex.serve.work import Work
from colindex.views.html import hashed, match_fragment, script_hash

__all__ = ["create_app"]

_STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status, title in TITLES.items()
    if status != 405  # no answer of a route
}


def create_app(index: Index, path: Path, limits: Limits | None = None, names: frozenset[str] | None = None) -> FastAPI:
    """The server of an index, as an ASGI application; the index stays the caller's to close.

    Args:
        index: open, with its encoder; with `refresh=True` searches see new generations.
        path: its folder.
        limits: what one request may take.
        names: what a request may call this server; None allows every name.
    """
    limits = limits or Limits()
    work, metrics = Work(limits), Metrics(index.stats)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        work.open()
        try:
            yield
        finally:
            work.close()

    app = FastAPI(
        title="colindex",
        version=colindex.__version__,
        description=f"Search the index `{path.resolve().name}`, and see why a document was found.",
        docs_url=None,  # FastAPI's pages load from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_api(app, index, path, work, metrics)
    _add_watching(app, index, metrics)
    _add_page(app, index, work)
    _add_errors(app)
    app.add_middleware(Guard, limits=limits, names=names)
    app.add_middleware(Measured, metrics=metrics)
    return app


# ---- 1. The API


def _answering(model: type[Any]) -> dict[str, Any]:
    return {"responses": {200: {"model": model}, **_REFUSED}, "response_class": Json}


def _add_api(app: FastAPI, index: Index, path: Path, work: Work, metrics: Metrics) -> None:
    description = answers.Description(index, path)

    @app.post("/api/search", summary="Search", **_answering(Found))
    async def search(form: SearchForm) -> Response:
        found = await work.run(partial(answers.search, index, form))
        metrics.add_search(found["seconds"])
        return Json(found)

    async def inspected(form: InspectForm) -> Response:
        return await work.run(lambda: Json(answers.inspect(index, form).to_dict()))

    @app.get("/api/inspect", summary="What met what", operation_id="inspect", **_answering(MatchData))
    async def inspect(form: Annotated[InspectForm, Query()]) -> Response:
        return await inspected(form)

    @app.post("/api/inspect", summary="What met what", operation_id="inspect_posted", **_answering(MatchData))
    async def inspect_posted(form: InspectForm) -> Response:
        return await inspected(form)

    @app.post("/api/explain", summary="Why a document is in the answer, or is not", **_answering(Explained))
    async def explain(form: ExplainForm) -> Response:
        return Json(await work.run(partial(answers.explain, index, form)))

    @app.get("/api/index", summary="The index in figures", **_answering(IndexFacts))
    async def describe() -> Response:
        return Json(await work.run(description.now))


def _add_watching(app: FastAPI, index: Index, metrics: Metrics) -> None:
    @app.get("/health", summary="Whether the server answers", **_answering(Health))
    async def health() -> Response:
        manifest = index.manifest
        return Json({"status": "ok", "documents": manifest.documents, "generation": manifest.generation})

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Text)
    async def counted() -> Response:
        return Response(metrics.text(), media_type=METRICS_TYPE)


# ---- 3. The page


def _add_page(app: FastAPI, index: Index, work: Work) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(_file("index.html"), media_type="text/html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in _STATIC:
            raise HTTPException(404)
        return Response(_file(name), media_type=_STATIC[name])

    @app.get("/match", include_in_schema=False)
    async def match(form: Annotated[InspectForm, Query()]) -> Response:
        return await work.run(lambda: _match_page(index, form))


def _match_page(index: Index, form: InspectForm) -> Response:
    fragment, script = match_fragment(answers.inspect(index, form)), _file("frame.js").decode()
    content = Template(_file("match.html").decode()).substitute(fragment=fragment, script=script)
    policy = (
        f"sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src {hashed(script)} {script_hash()}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    headers = {"content-security-policy": policy}
    return Response(content, media_type="text/html", headers=headers)


@cache
def _file(name: str) -> bytes:
    return (files("colindex.serve") / "static" / name).read_bytes()


# ---- 2. Errors and answers


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ColindexError)
    async def of_colindex(_: Request, error: ColindexError) -> Response:
        return _refusal(problem_of(error))

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return _refusal(problem(error.status, str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _refusal(_invalid(error))

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        return _refusal(problem(error.status_code, str(error.detail)), error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        detail = "Something unexpected went wrong; the server's log says what."
        return _refusal(problem(500, detail), HEADERS)


def _refusal(found: dict[str, Any], headers: Any = None) -> Response:
    more = {"retry-after": "1"} if found["status"] == 503 else {}
    return Json(found, found["status"], {**(headers or {}), **more}, MEDIA_TYPE)


def _invalid(error: RequestValidationError) -> dict[str, Any]:
    """The first thing that is wrong in words, and all of them without what was handed in."""
    found = [_wrong(one) for one in error.errors()]
    return problem(422, f"{found[0]['field']}: {found[0]['message']}.", field=found[0]["field"], errors=found)


def _wrong(one: Mapping[str, Any]) -> dict[str, str]:
    """Which part is wrong, and why."""
    if one["type"] == "json_invalid":  # its place is the number of a character, from 0
        at, reason = one["loc"][-1], one.get("ctx", {}).get("error", "no JSON")
        return {"field": "body", "message": f"Expected JSON, got something else after character {at} ({reason})"}
    return {"field": ".".join(map(str, one["loc"][1:])) or "body", "message": one["msg"]}


class Text(Response):
    """Plain text."""

    media_type = "text/plain"


class Json(JSONResponse):
    """JSON of a value whose numbers are finite. All but ASCII is escaped: halves of characters, which UTF-8 has not, too."""

    def render(self, content: Any) -> bytes:
        """The value's bytes."""
        return json.dumps(content, allow_nan=False).encode()
