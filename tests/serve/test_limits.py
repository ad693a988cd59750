"""Limits and names: what is too large, too slow or too much is refused; strangers' names and pages get nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from colindex import Index
from colindex.errors import ParameterError
from colindex.serve.limits import Limits
from colindex.serve.running import allowed_names, is_loopback
from tests.serve.conftest import client_of, wait_for


class Gate:
    """Holds searches until it is opened."""

    def __init__(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.waiting = threading.Event(), 0
        encode = index.encode_query

        def encode_query(query: str) -> object:
            if query == "hold":
                self.waiting += 1
                assert self.open.wait(30)
            return encode(query)

        monkeypatch.setattr(index, "encode_query", encode_query)


def asked(client: TestClient, query: str = "hold") -> int:
    return client.post("/api/search", json={"query": query}).status_code


def test_a_body_that_is_too_large(index: Index, served_path: Path) -> None:
    with client_of(index, served_path, Limits(body_bytes=1_000)) as client:
        body = b'{"query": "' + b"a" * 1_000 + b'"}'
        whole = client.post("/api/search", content=body, headers={"content-type": "application/json"})
        parts = client.post(
            "/api/search",
            content=(body[at : at + 100] for at in range(0, len(body), 100)),
            headers={"content-type": "application/json"},
        )
        for response in (whole, parts):
            assert (response.status_code, response.json()["title"]) == (413, "Request too large")
            assert response.headers["content-security-policy"]
        assert client.post("/api/search", json={"query": "a" * 900}).status_code == 200


def test_a_request_that_takes_too_long(index: Index, served_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(index, monkeypatch)
    with client_of(index, served_path, Limits(seconds=0.2, running=2)) as client:
        assert asked(client) == 504
        gate.open.set()


def test_more_requests_than_may_wait(index: Index, served_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(index, monkeypatch)
    limits = Limits(running=1, waiting=1)
    with client_of(index, served_path, limits) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(asked, client)
        wait_for(lambda: gate.waiting == 1)
        second = pool.submit(asked, client)
        try:
            wait_for(lambda: "colindex_requests_running 3.0" in client.get("/metrics").text)  # the two, and this one
            assert asked(client, "amber") == 503
            assert client.get("/health").status_code == 200  # it does not wait behind searches
            refusal = client.post("/api/search", json={"query": "amber"})
            assert refusal.headers["retry-after"] == "1"
        finally:
            gate.open.set()
        assert (first.result(30), second.result(30)) == (200, 200)
        assert asked(client, "amber") == 200


def test_what_was_given_up_keeps_its_place_until_it_ends(
    index: Index, served_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(index, monkeypatch)
    with client_of(index, served_path, Limits(seconds=0.2, running=1, waiting=0)) as client:
        assert asked(client) == 504
        assert asked(client, "amber") == 503
        gate.open.set()
        wait_for(lambda: asked(client, "amber") == 200)


@pytest.mark.parametrize("settings", [{"running": 0}, {"waiting": -1}, {"body_bytes": 0}, {"seconds": 0}])
def test_limits_are_checked(settings: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(settings))}: expected"):
        Limits(**settings)


def test_headers_of_every_answer(client: TestClient) -> None:
    for path in ("/", "/static/page.js", "/api/index", "/health", "/nowhere", "/api/search"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"


def test_no_other_site_may_read_answers(client: TestClient) -> None:
    asking = {"origin": "http://elsewhere.example", "access-control-request-method": "POST"}
    for response in (
        client.get("/api/index", headers=asking),
        client.options("/api/search", headers={**asking, "access-control-request-headers": "content-type"}),
        client.post("/api/search", content='{"query": "a"}', headers={"origin": "null", "content-type": "text/plain"}),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]
    assert response.status_code == 422  # what a form of another site may send is no JSON


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:80@evil.example", False),
        ("", False),
    ],
)
def test_a_name_of_a_stranger_is_refused(index: Index, served_path: Path, host: str, served: bool) -> None:
    with client_of(index, served_path, names=allowed_names("127.0.0.1")) as client:
        response = client.get("/api/index", headers={"host": host})
        assert response.status_code == (200 if served else 421)


def test_which_addresses_are_this_machines_own() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.7", "example.org")] == [False] * 4
    assert allowed_names("0.0.0.0") is None
    assert {"127.8.0.1", "localhost"} <= (allowed_names("127.8.0.1") or set())
