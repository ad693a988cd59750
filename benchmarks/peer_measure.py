"""Steps 3 to 5 of the peer benchmark: build, warm up, measure in turn.

3. Build each contestant's index in a process of its own, on all cores. Peers' indexes are kept and found again, and so is the
   fact that one was not done within the limit; ours is built anew each time, because its code is what changes.
4. Open every index in a process of its own, on one core. Warm up: each answers all queries at each setting, the most work
   first, until its time is up, and one query at least.
5. Repeat: each contestant in turn answers every query at every setting, after half a second of the same that is not measured,
   and for half a second at least. Interleaving spreads whatever else the machine does over all of them. A setting whose
   repetition took longer than the patience is not repeated.

Whatever fails is a row that says why, and the others go on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer_contestants import Contestant, Setting, label
from benchmarks.peer_data import Collection, Say
from benchmarks.peer_process import PeerError, TimeLimitError, Worker
from benchmarks.peer_results import BuildRow, SearchRow, recall, summary

__all__ = ["Plan", "build_all", "search_all"]

REQUIREMENTS = Path(__file__).with_name("peers-requirements.txt")
WARM_UP_QUERIES = 10
STEADY = 0.5
"""Seconds before each measurement in which the core gets up to speed, and those that it takes at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to measure."""

    collection: Collection
    our_python: Path
    peers_python: Path
    k: int
    repetitions: int
    build_threads: int
    build_limit: float
    """Seconds for one build, from when its inputs are ready."""
    warm_up: float
    """Seconds for one contestant's warm-up."""
    patience: float
    """Seconds of a repetition beyond which a setting is not repeated."""
    answer_limit: float
    """Seconds for one repetition of one setting."""
    rebuild: bool = False

    def folder(self, contestant: Contestant) -> Path:
        """Where a contestant's index is: another one for other builds and other versions of the peers."""
        made_by = json.dumps([dict(contestant.build), REQUIREMENTS.read_text(encoding="utf-8")])
        return (
            self.collection.folder.parent / f"{contestant.slug}-{blake2b(made_by.encode(), digest_size=4).hexdigest()}"
        )

    def worker(self, contestant: Contestant, role: str, threads: int) -> Worker:
        """Start a contestant's process."""
        folder = self.folder(contestant)
        (folder / "index").mkdir(parents=True, exist_ok=True)
        python = self.our_python if contestant.ours else self.peers_python
        log = folder / f"{role}.log"
        return Worker(contestant, role, python, self.collection.folder, folder / "index", threads, log)


# ---- step 3


def build_all(plan: Plan, contestants: Sequence[Contestant], say: Say) -> tuple[BuildRow, ...]:
    """Build what has to be built, one after the other."""
    rows = []
    for contestant in contestants:
        if contestant.builds:
            rows.append(_cached(plan, contestant) or _build(plan, contestant, say))
            say(f"  {rows[-1].name}: {rows[-1].reason or f'{rows[-1].seconds:,.1f} s'}{' (cached)' * rows[-1].cached}")
    return tuple(rows)


def _cached(plan: Plan, contestant: Contestant) -> BuildRow | None:
    """A peer's build of an earlier run; one that was not done in time counts if it had as long as it would have now."""
    note = plan.folder(contestant) / "build.json"
    if contestant.ours or plan.rebuild or not note.exists():
        return None
    kept = json.loads(note.read_text(encoding="utf-8"))
    if kept["data"] != _data_identity(plan) or (kept["row"]["reason"] and kept["limit"] < plan.build_limit):
        return None
    return replace(BuildRow(**kept["row"]), cached=True)


def _build(plan: Plan, contestant: Contestant, say: Say) -> BuildRow:
    say(f"building {contestant.name}")
    folder = plan.folder(contestant)
    shutil.rmtree(folder, ignore_errors=True)
    row = BuildRow(name=contestant.name, engine=contestant.engine, date=datetime.now(UTC).isoformat(timespec="minutes"))
    try:
        with plan.worker(contestant, "build", plan.build_threads) as worker:
            ready = worker.hear(plan.answer_limit)
            row = replace(row, version=ready["version"], inputs_mib=round(ready["inputs_mib"], 1))
            answer = _within(plan.build_limit, worker)
    except PeerError as error:
        return replace(row, reason=f"build: {error}")  # not kept: it may be the installation
    if answer is None:
        row = replace(row, given_up=plan.build_limit, reason=f"build not done after {plan.build_limit:,.0f} s")
    else:
        row = replace(
            row,
            seconds=round(answer["seconds"], 2),
            bytes_a_token=round(answer["bytes"] / plan.collection.tokens, 2),
            peak_mib=round(answer["peak_mib"], 1),
        )
    kept = {"row": asdict(row), "limit": plan.build_limit, "data": _data_identity(plan)}
    (folder / "build.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return row


def _within(limit: float, worker: Worker) -> Mapping[str, Any] | None:
    """The next answer; None where the time was up first."""
    try:
        return worker.hear(limit)
    except TimeLimitError:
        return None


def _data_identity(plan: Plan) -> Mapping[str, object]:
    """What the documents were made from: an index of other documents is no use."""
    made = json.loads((plan.collection.folder / "made.json").read_text(encoding="utf-8"))
    return {key: value for key, value in made["source"].items() if key != "queries"}


# ---- steps 4 and 5


@dataclass(slots=True)
class _Measured:
    """One setting of one contestant while it is measured."""

    contestant: Contestant
    setting: Setting
    seconds: list[list[float]] = field(default_factory=list)
    found: list[list[int]] = field(default_factory=list)
    reason: str | None = None
    slow: bool = False

    def row(self, exact: Sequence[Sequence[int]]) -> SearchRow:
        """What the tables show."""
        row = SearchRow(
            name=self.contestant.name,
            engine=self.contestant.engine,
            setting=label(self.setting),
            refines=self.contestant.refines and "documents" in self.setting,
            note=self.contestant.note,
            reason=self.reason,
        )
        if self.reason is not None or not self.seconds:
            return replace(row, reason=self.reason or "not measured")
        median, p95 = summary(self.seconds)
        share = round(recall(self.found, exact), 5)
        return replace(row, recall=share, median_ms=median, p95_ms=p95, repetitions=len(self.seconds))


def search_all(
    plan: Plan, contestants: Sequence[Contestant], builds: Sequence[BuildRow], say: Say
) -> tuple[SearchRow, ...]:
    """Measure every setting of every contestant whose index there is."""
    failed = {row.name: row.reason for row in builds if row.reason is not None}
    measured = {
        one.name: [_Measured(one, setting, reason=failed.get(one.name)) for setting in one.searches]
        for one in contestants
    }
    with ExitStack() as stack:
        workers = {}
        for contestant in contestants:
            worker = _opened(plan, contestant, measured[contestant.name], say)
            if worker is not None:
                workers[contestant.name] = stack.enter_context(worker)
        for name, worker in workers.items():
            say(f"warming up {name}")
            _warm_up(plan, worker, measured[name])
        for repetition in range(plan.repetitions):
            for name, worker in workers.items():
                say(f"repetition {repetition + 1} of {plan.repetitions}: {name}")
                for one in measured[name]:
                    _repeat(plan, worker, one)
    exact = np.load(plan.collection.folder / "exact.npy")[:, : plan.k].tolist()
    return tuple(one.row(exact) for settings in measured.values() for one in settings)


def _opened(plan: Plan, contestant: Contestant, measured: Sequence[_Measured], say: Say) -> Worker | None:
    """A worker with its index open; None, and the rows say why, where there is none."""
    if any(one.reason for one in measured):
        return None
    say(f"opening {contestant.name}")
    worker = None
    try:
        worker = plan.worker(contestant, "serve", threads=1)
        worker.hear(plan.answer_limit)
    except PeerError as error:
        if worker is not None:
            worker.close()
        for one in measured:
            one.reason = f"open: {error}"
        return None
    return worker


def _warm_up(plan: Plan, worker: Worker, settings: Sequence[_Measured]) -> None:
    """The second half of step 4."""
    end = time.monotonic() + plan.warm_up
    for one in reversed(settings):
        for start in range(0, plan.collection.queries, WARM_UP_QUERIES):
            late = time.monotonic() > end
            if one.reason or (late and start):
                break
            stop = min(start + (1 if late else WARM_UP_QUERIES), plan.collection.queries)
            _asked(plan, worker, one, range(start, stop))


def _repeat(plan: Plan, worker: Worker, one: _Measured) -> None:
    """One repetition of one setting."""
    if one.reason or one.slow:
        return
    start = time.monotonic()
    answer = _asked(plan, worker, one, range(plan.collection.queries), STEADY)
    if answer is not None:
        one.seconds.append(answer[0])
        one.found = answer[1]
        one.slow = time.monotonic() - start > plan.patience


def _asked(
    plan: Plan, worker: Worker, one: _Measured, queries: Sequence[int], steady: float = 0.0
) -> tuple[list[float], list[list[int]]] | None:
    """Seconds and documents; None, and the setting's reason is set, if it failed."""
    try:
        answer = worker.ask(queries, plan.k, one.setting, plan.answer_limit, steady)
    except PeerError as error:
        one.reason = str(error)
        return None
    return answer["seconds"], answer["found"]
