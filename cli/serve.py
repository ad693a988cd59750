"""`colindex serve`: a page and a JSON API for one index.

1. *Take* the port, and *open* the index with its encoder.
2. *Serve* until interrupted. The URL, and every note, goes to stderr.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from colindex.cli.options import OpenOptions, gathered, index_argument, open_index, open_options
from colindex.cli.output import note

__all__ = ["command"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to serve, and how much."""

    host: str
    port: int
    concurrency: int
    timeout: float
    open_: bool


@click.command("serve")
@index_argument
@click.option("--host", default="127.0.0.1", help="Address to serve at; 0.0.0.0 lets other machines in.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port to serve at; 0 takes a free one.")
@open_options
@click.option("--concurrency", default=2, type=click.IntRange(1, 256), help="Requests that search at the same time.")
@click.option("--timeout", default=30.0, type=click.FloatRange(0.1, 3600), help="Seconds that a request may take.")
@click.option("--open", "open_", is_flag=True, help="Open the page in a browser.")
@gathered(Place, "place")
def command(index: Path, options: OpenOptions, place: Place) -> None:
    """Serve a page to search an index with, and a JSON API.

    The page shows hits with their best sentences, what each query token matched, and where the time went. The API is described at
    /openapi.json; /health and /metrics (Prometheus) are for whoever watches. New generations of the index appear by themselves.

    Everybody who reaches the address may search: the default one is reached from this machine only.

    \b
    Example:
      colindex serve wiki.colindex
      colindex serve wiki.colindex --port 8080 --open
      curl -s localhost:8000/api/search -H 'content-type: application/json' -d '{"query": "who wrote Dune?", "k": 3}'
    """
    from colindex.serve import running
    from colindex.serve.limits import Limits

    running.check_installed()
    limits = Limits(seconds=place.timeout, running=place.concurrency)
    with running.taken_port(place.host, place.port) as taken:
        url = running.url(taken)
        if not running.is_loopback(place.host):
            note(
                f"Warning: {place.host} is reached by other machines: whoever can connect may search and read {index}."
            )

        def ready() -> None:
            note(f"Serving {index} at {url} (Ctrl-C to stop)")
            if place.open_:
                import webbrowser

                webbrowser.open(url)

        with open_index(index, options, refresh=True) as opened:
            running.serve(opened, index, taken, limits, ready)
    note("Stopped.")
