"""A worker of the peer benchmark: one engine in one process, driven over stdin and stdout (`peer_process` is the other end).

    python -m benchmarks.peer_worker ENGINE build|serve DATA INDEX THREADS SETTINGS

1. Keep stdout for answers alone: engines print to it, so what they print goes to stderr.
2. `build`: load the arrays, bring them into the engine's types, say that all is ready; build; answer seconds, peak memory,
   bytes on disk. (Two answers, because the time that a build is given begins when it does.)
3. `serve`: load, open the index, answer; then one JSON object a line in, {"queries": [...], "k": 10, "settings": {...},
   "steady": 0.5}, and one out, {"seconds": [...], "found": [[...], ...]}. For `steady` seconds queries are answered that are not
   measured; then all of them, again and again until as many seconds have passed: a disturbance may outlast one pass.
4. Whatever goes wrong is an answer too: {"error": "..."}.

Needs NumPy and the engine alone: it runs in the peers' venv, where there is no colindex.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.peer_engine import Arrays, Engine

ADAPTERS = {
    "colindex": "benchmarks.peer_colindex",
    "exact": "benchmarks.peer_exact",
    "fast-plaid": "benchmarks.peer_fastplaid",
    "lancedb": "benchmarks.peer_lancedb",
    "maxsim-cpu": "benchmarks.peer_maxsim",
    "tachiom": "benchmarks.peer_tachiom",
    "xtr-warp": "benchmarks.peer_xtrwarp",
}


def main(arguments: list[str]) -> None:
    """Run one worker."""
    name, role, data, index, threads, settings = arguments
    with own_stdout() as answers:
        try:
            adapter = importlib.import_module(ADAPTERS[name])
            engine = adapter.ENGINE(Arrays.load(Path(data)), Path(index), int(threads), json.loads(settings))
            if role == "build":
                build(engine, answers)
            else:
                serve(engine, answers)
        except Exception as error:  # noqa: BLE001 - a peer that fails is a row that says why
            say(answers, {"error": described(error)})


@contextlib.contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Step 1: the real stdout, while file descriptor 1 goes to stderr (native code prints past sys.stdout)."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


def build(engine: Engine, answers: TextIO) -> None:
    """Step 2."""
    version = engine.version()  # a missing package shows before the work
    prepared = engine.prepare()
    say(answers, {"version": version, "inputs_mib": resident_mib("VmRSS")})
    start = time.perf_counter()
    engine.build(prepared)
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in engine.folder.rglob("*") if file.is_file())
    say(answers, {"seconds": seconds, "bytes": size, "peak_mib": resident_mib("VmHWM")})


def serve(engine: Engine, answers: TextIO) -> None:
    """Step 3."""
    if engine.threads == 1:  # one core for all that the engine starts, whichever pools it has
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    start = time.perf_counter()
    engine.open()
    seconds = time.perf_counter() - start
    questions = [engine.question(number) for number in range(len(engine.arrays.queries))]
    say(answers, {"version": engine.version(), "open_seconds": seconds})
    for line in sys.stdin:
        try:
            say(answers, answer(engine, questions, json.loads(line)))
        except Exception as error:  # noqa: BLE001 - one setting may fail and the next one work
            say(answers, {"error": described(error)})


def answer(engine: Engine, questions: list[Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """One request: for each query the median of its passes, and what the last one found."""
    wake(engine, questions, request)
    passes, end = [], time.perf_counter() + request["steady"]
    while True:
        seconds, found = one_pass(engine, questions, request)
        passes.append(seconds)
        if time.perf_counter() >= end:
            return {"seconds": np.median(passes, axis=0).tolist(), "found": found}


def wake(engine: Engine, questions: list[Any], request: Mapping[str, Any]) -> None:
    """Answer queries that are not measured: a core that slept takes a while to be as fast as one that did not."""
    end = time.perf_counter() + request["steady"]
    for number in cycle(request["queries"]):
        if time.perf_counter() >= end:
            return
        engine.search(questions[number], request["k"], request["settings"])


def one_pass(engine: Engine, questions: list[Any], request: Mapping[str, Any]) -> tuple[list[float], list[list[int]]]:
    """Seconds and documents of every query."""
    seconds, found = [], []
    for number in request["queries"]:
        start = time.perf_counter()
        result = engine.search(questions[number], request["k"], request["settings"])
        seconds.append(time.perf_counter() - start)
        found.append([int(document) for document in engine.documents(result)])
    return seconds, found


def say(answers: TextIO, message: Mapping[str, Any]) -> None:
    """One line of JSON."""
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def described(error: Exception) -> str:
    """Type and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def resident_mib(field: str) -> float:
    """Memory of this process as the kernel counts it: VmRSS now, VmHWM at its peak.

    Not `getrusage`: that carries the peak of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status: expected a line {field}:, found none; this benchmark needs Linux.")


if __name__ == "__main__":
    main(sys.argv[1:])
