"""Running: from a path and a port to a server that answers, and back. This is the one module that imports uvicorn.

1. *Take* the port, before anything slow: a port that is taken is said at once.
2. *Open* what is served; whoever asked is told the URL.
3. *Serve* until SIGINT or SIGTERM. Requests that run are then finished, up to the limit of a request, and no new ones are taken.
"""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from colindex.errors import MissingDependencyError, ParameterError
from colindex.serve.limits import Limits

if TYPE_CHECKING:
    from uvicorn import Server

    from colindex.index import Index
    from colindex.serve.guard import App

__all__ = ["allowed_names", "check_installed", "is_loopback", "serve", "taken_port", "url"]

_GRACE = 5  # seconds beyond the limit of a request


def check_installed() -> None:
    """Raise MissingDependencyError unless the extra `serve` is installed."""
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(name) is None:
            raise MissingDependencyError(
                f"colindex serve: expected the package {name}, which is not installed; "
                "install what it needs with `pip install 'colindex[serve]'`."
            )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def allowed_names(host: str) -> frozenset[str] | None:
    """What a request may call a server at this address; None where others may reach it, by whatever name they have for it."""
    from colindex.serve.guard import LOOPBACK_NAMES

    return LOOPBACK_NAMES | {f"[{host}]" if ":" in host else host.lower()} if is_loopback(host) else None


def taken_port(host: str, port: int) -> socket.socket:
    """Step 1: a socket that holds a port; port 0 takes a free one.

    Raises:
        ParameterError: the port or the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ParameterError(f"host: expected an address of this machine, got {host!r}: {error.strerror}.") from error
    family, kind, protocol, _, address = found[0]
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise ParameterError(
            f"port: expected one that is free on {host}, got {port}: {error.strerror}; choose another with --port, or 0 for "
            "any that is free."
        ) from error
    return taken


def url(taken: socket.socket) -> str:
    """Where a browser on this machine finds what is served."""
    host, port = taken.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(index: Index, path: Path, taken: socket.socket, limits: Limits, ready: Callable[[], None]) -> None:
    """Steps 2 and 3; comes back when it was told to stop.

    Args:
        index: open; it stays the caller's to close.
        path: its folder.
        taken: what `taken_port` gave.
        limits: what one request may take.
        ready: called when connections are taken.
    """
    from colindex.serve.app import create_app

    server = _server(create_app(index, path, limits, allowed_names(taken.getsockname()[0])), limits)
    with _stopping(server):
        taken.listen(128)
        ready()
        server.run(sockets=[taken])


def _server(app: App, limits: Limits) -> Server:
    from uvicorn import Config, Server

    config = Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody stands between; a request does not say where it comes from
        timeout_graceful_shutdown=int(limits.seconds) + _GRACE,
    )
    return Server(config)


@contextmanager
def _stopping(server: Server) -> Iterator[None]:
    """Signals before and after uvicorn's own handlers stand stop the server too; being told to stop is no failure."""

    def stop(_: int, __: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
