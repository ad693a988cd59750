"""The benchmark of seeing why: it takes the encoder's time out, and does each thing once a question or match."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.inspect_speed import AT_MOST, Clock, Watched, ask, figures
from colindex import Index, TokenBatch
from tests.words import WordEncoder, documents

SECONDS = 0.03


class Slow(WordEncoder):
    """Takes its time, and names tokens."""

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        time.sleep(SECONDS)
        return super().encode_queries(texts)

    def vocabulary(self, token_ids: NDArray[np.int32]) -> tuple[str, ...]:
        return tuple(map(str, token_ids.tolist()))


def test_the_encoders_time_is_taken_out(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(30), Slow())
    encoder = Watched(Slow())
    clock = Clock(encoder)
    with Index.open(tmp_path / "i", encoder=encoder) as index:
        ask(tmp_path / "i", index, clock, ["amber basin", "rare7"])
    found = figures(clock)
    assert AT_MOST.keys() <= found.keys()
    assert len(clock.spent["search"]) == len(clock.spent["POST /api/search"]) == 2
    assert len(clock.spent["inspect"]) == len(clock.spent["to_html"]) == 4
    assert found["inspect"]["encoder_ms"] >= 1000 * SECONDS
    assert found["to_html"]["encoder_ms"] == 0
    clock("encoding", lambda: encoder.encode_query("amber"))
    assert 0 <= clock.spent["encoding"][0] < 1000 * SECONDS <= clock.encoding["encoding"][0]
