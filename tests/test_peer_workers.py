"""The peer benchmark's processes: the exact engine in real ones, peers that fail, and what is kept between runs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peer_exact, peer_measure, peer_worker
from benchmarks.peer_contestants import CONTESTANTS, Contestant, chosen
from benchmarks.peer_data import Collection, collect
from benchmarks.peer_engine import Arrays
from benchmarks.peer_measure import Plan, build_all, search_all
from benchmarks.peer_process import PeerError, TimeLimitError, Worker


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """A collection of 30 documents of 1 to 6 tokens and 4 queries, 160 dims, as `benchmarks.vectors` writes it."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, lengths in (("docs", rng.integers(1, 7, 30)), ("queries", np.array([3, 1, 40, 5]))):
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = rng.standard_normal((offsets[-1], 160))
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        ids = np.array([f"{name}{number}" for number in range(len(lengths))])
        np.savez(
            folder / f"{name}.npz", v=flat.astype(np.float16), i=rng.integers(0, 9, offsets[-1]), o=offsets, ids=ids
        )
    return folder


def quiet(_words: str) -> None:
    """Nobody listens."""


def plan_for(collection: Collection, build_limit: float = 60) -> Plan:
    return Plan(
        collection=collection,
        our_python=Path(sys.executable),
        peers_python=collection.folder / "no-python",
        k=10,
        repetitions=2,
        build_threads=1,
        build_limit=build_limit,
        answer_limit=60,
        warm_up=1,
        patience=60,
    )


def test_every_engine_gets_unit_vectors_and_the_exact_answers(vectors: Path, tmp_path: Path) -> None:
    collection = collect(vectors, tmp_path / "scratch", 20, None, quiet)
    arrays = Arrays.load(collection.folder)
    assert (collection.label, collection.documents, collection.queries) == ("tiny-20", 20, 4)
    assert arrays.vectors.shape == (collection.tokens, 128)
    np.testing.assert_allclose(np.linalg.norm(arrays.vectors.astype(np.float32), axis=1), 1, atol=2e-3)
    documents = arrays.documents(np.float32)
    for query, best in zip(arrays.queries, arrays.exact, strict=True):
        scores = [float((query @ document.T).max(axis=1).sum()) for document in documents]
        np.testing.assert_allclose(np.sort(scores)[::-1], np.asarray(scores)[best], rtol=1e-5)


def test_arrays_are_kept_until_the_vectors_change(vectors: Path, tmp_path: Path) -> None:
    said: list[str] = []
    collect(vectors, tmp_path / "scratch", None, None, said.append)
    made = len(said)
    assert made
    collect(vectors, tmp_path / "scratch", None, None, said.append)
    assert len(said) == made
    (vectors / "docs.npz").touch()
    collect(vectors, tmp_path / "scratch", None, None, said.append)
    assert len(said) == 2 * made


def test_the_exact_engine_finds_all_and_a_missing_peer_is_a_row_that_says_why(vectors: Path, tmp_path: Path) -> None:
    collection = collect(vectors, tmp_path / "scratch", None, None, quiet)
    plan, contestants = plan_for(collection), chosen(["tachiom", "exact", "maxsim-cpu"])
    builds = build_all(plan, contestants, quiet)
    rows = search_all(plan, contestants, builds, quiet)
    assert [build.engine for build in builds] == ["tachiom"]
    assert "make bench-peers" in str(builds[0].reason)
    by_engine = {row.engine: row for row in rows}
    assert by_engine["exact"].recall == 1.0
    assert by_engine["exact"].repetitions == 2
    assert by_engine["exact"].reason is None
    for engine in ("tachiom", "maxsim-cpu"):
        assert by_engine[engine].recall is None
        assert "no-python does not start" in str(by_engine[engine].reason)
    assert len(rows) == sum(len(one.searches) for one in contestants)


def test_a_peer_whose_package_is_missing_says_so(vectors: Path, tmp_path: Path) -> None:
    collection = collect(vectors, tmp_path / "scratch", None, None, quiet)
    (contestant,) = chosen(["tachiom"])
    log = tmp_path / "log"
    with (
        Worker(contestant, "build", Path(sys.executable), collection.folder, tmp_path, 1, log) as worker,
        pytest.raises(PeerError, match="No module named 'tachiom'"),
    ):
        worker.hear(60)


def test_a_worker_that_ends_says_how(vectors: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        Worker(CONTESTANTS[0], "build", Path("/bin/false"), vectors, tmp_path, 1, log) as worker,
        pytest.raises(PeerError, match="ended with code 1"),
    ):
        worker.hear(60)


def test_a_worker_out_of_time_is_ended(vectors: Path, tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nsleep 60\n", encoding="utf-8")
    sleeper.chmod(0o755)
    start = time.monotonic()
    with (
        Worker(CONTESTANTS[0], "build", sleeper, vectors, tmp_path, 1, tmp_path / "log") as worker,
        pytest.raises(TimeLimitError, match="not done after 0 s"),
    ):
        worker.hear(0.2)
    assert time.monotonic() - start < 30


def test_the_time_of_a_build_begins_when_its_inputs_are_ready(vectors: Path, tmp_path: Path) -> None:
    collection = collect(vectors, tmp_path / "scratch", None, None, quiet)
    (contestant, *_) = chosen(["colindex"])
    log = tmp_path / "log"
    with Worker(contestant, "build", Path(sys.executable), collection.folder, tmp_path, 1, log) as worker:
        ready, built = worker.hear(60), worker.hear(60)
    assert {*ready} == {"version", "inputs_mib"}
    assert built["seconds"] > 0 and built["peak_mib"] >= ready["inputs_mib"]


def test_fast_engines_are_measured_for_a_while_on_a_core_that_is_up_to_speed(
    vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = collect(vectors, tmp_path / "scratch", None, None, quiet)
    engine = peer_exact.ENGINE(Arrays.load(collection.folder), tmp_path, 1, {})
    passes: list[str] = []

    def noting(step: str, whole: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            passes.append(step)
            return whole(*arguments)

        return noted

    for step in ("wake", "one_pass"):
        monkeypatch.setattr(peer_worker, step, noting(step, getattr(peer_worker, step)))
    engine.open()
    questions = [engine.question(number) for number in range(4)]
    request = {"queries": [2, 0], "k": 3, "settings": {}}
    start = time.perf_counter()
    awake = peer_worker.answer(engine, questions, {**request, "steady": 0.2})
    assert time.perf_counter() - start >= 0.4 > sum(awake["seconds"])
    assert passes[:3] == ["wake", "one_pass", "one_pass"]
    passes.clear()
    at_once = peer_worker.answer(engine, questions, {**request, "steady": 0.0})
    assert passes == ["wake", "one_pass"]
    assert awake["found"] == at_once["found"] == collection_exact(collection, [2, 0], 3)
    assert len(awake["seconds"]) == len(at_once["seconds"]) == 2


def collection_exact(collection: Collection, queries: Sequence[int], k: int) -> list[list[int]]:
    return [np.load(collection.folder / "exact.npy")[number, :k].tolist() for number in queries]


# ---- what is kept between runs


Answer = Mapping[str, float | str]


class FakeWorker:
    """A peer that is ready, and then answers what the test says."""

    def __init__(self, answer: Answer | PeerError) -> None:
        self.answers: list[Answer | PeerError] = [{"version": "0.4.0", "inputs_mib": 20.0}, answer]

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def hear(self, _limit: float) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, PeerError):
            raise answer
        return answer


BUILT: Answer = {"seconds": 3.0, "bytes": 4000, "peak_mib": 50.0}


@pytest.fixture
def peer_builds(
    vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Collection, list[Answer | PeerError]]:
    """A collection, and the list of answers that builds will give, in turn."""
    answers: list[Answer | PeerError] = []

    def worker(plan: Plan, contestant: Contestant, _role: str, _threads: int) -> FakeWorker:
        (plan.folder(contestant) / "index").mkdir(parents=True)
        return FakeWorker(answers.pop(0))

    monkeypatch.setattr(peer_measure.Plan, "worker", worker)
    return collect(vectors, tmp_path / "scratch", None, None, quiet), answers


def test_a_peers_index_is_built_once(
    peer_builds: tuple[Collection, list[Answer | PeerError]],
) -> None:
    collection, answers = peer_builds
    answers.append(BUILT)
    (first,) = build_all(plan_for(collection), chosen(["tachiom"]), quiet)
    (second,) = build_all(plan_for(collection), chosen(["tachiom"]), quiet)
    assert (first.seconds, first.cached, second.seconds, second.cached) == (3.0, False, 3.0, True)
    assert first.bytes_a_token == pytest.approx(4000 / collection.tokens, abs=0.01)


def test_a_build_out_of_time_is_tried_again_only_with_more_time(
    peer_builds: tuple[Collection, list[Answer | PeerError]],
) -> None:
    collection, answers = peer_builds
    answers += [TimeLimitError("not done after 60 s"), BUILT]
    rows = [build_all(plan_for(collection, build_limit=limit), chosen(["tachiom"]), quiet)[0] for limit in (60, 30, 90)]
    assert [row.reason for row in rows] == ["build not done after 60 s", "build not done after 60 s", None]
    assert [row.given_up for row in rows] == [60, 60, None]
    assert [row.version for row in rows] == ["0.4.0"] * 3
    assert not answers


def test_other_failures_are_tried_again(
    peer_builds: tuple[Collection, list[Answer | PeerError]],
) -> None:
    collection, answers = peer_builds
    answers += [PeerError("No module named 'tachiom'"), BUILT]
    reasons = [build_all(plan_for(collection), chosen(["tachiom"]), quiet)[0].reason for _ in range(2)]
    assert reasons == ["build: No module named 'tachiom'", None]


def test_notes_of_builds_are_plain_json(
    peer_builds: tuple[Collection, list[Answer | PeerError]],
) -> None:
    collection, answers = peer_builds
    answers.append(BUILT)
    plan, (contestant,) = plan_for(collection), chosen(["tachiom"])
    build_all(plan, [contestant], quiet)
    kept = json.loads((plan.folder(contestant) / "build.json").read_text(encoding="utf-8"))
    assert kept["row"]["version"] == "0.4.0"
