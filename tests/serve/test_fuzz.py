"""Requests made from the API's own description: no answer is the server's fault, and each is one that is described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colindex import Index
from colindex.serve.app import create_app

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install '.[dev]'")
VALID, INVALID = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
FORMS = [("POST", "/api/search"), ("POST", "/api/explain"), ("POST", "/api/inspect"), ("GET", "/api/inspect")]
PLAIN = [("GET", "/api/index"), ("GET", "/health"), ("GET", "/metrics")]
CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]


@pytest.fixture(scope="module")
def described(index: Index, served_path: Path) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(index, served_path))


def test_every_route_is_fuzzed(described: Any) -> None:
    found = {(each.ok().method.upper(), each.ok().path) for each in described.get_all_operations()}
    assert found == {*FORMS, *PLAIN}


@pytest.mark.parametrize(("method", "path"), PLAIN)
def test_what_takes_nothing_answers(described: Any, method: str, path: str) -> None:
    _ask(described, method, path, VALID, 2)


@pytest.mark.parametrize("mode", [VALID, INVALID], ids=["valid", "invalid"])
@pytest.mark.parametrize(("method", "path"), FORMS)
def test_no_form_breaks_the_server(described: Any, method: str, path: str, mode: Any) -> None:
    _ask(described, method, path, mode, 25)


def _ask(described: Any, method: str, path: str, mode: Any, times: int) -> None:
    cases = described[path][method].as_strategy(generation_mode=mode)
    checks = schemathesis.checks.CHECKS.get_by_names(CHECKS)

    @settings(max_examples=times, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def asked(data: st.DataObject) -> None:
        data.draw(cases).call_and_validate(checks=checks)

    asked()
