"""Who takes part in the peer benchmark, and with which settings.

Every contestant is one way to build and several ways to search that index, from the least work to the most, so that there is
a curve. Settings are what came out on the frontier of sweeps over documented knobs, the peers' defaults besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["CONTESTANTS", "Contestant", "Setting", "chosen", "label"]

Setting = Mapping[str, int | float | str | None]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One engine with one way to build."""

    engine: str
    searches: tuple[Setting, ...]
    """Settings of the searches, from the least work to the most."""
    build: Setting = field(default_factory=dict)
    """Settings of the build."""
    ours: bool = False
    """Runs in this venv, not in the peers'."""
    builds: bool = True
    """Has an index to build."""
    refines: bool = False
    """Settings that name `documents` are handed candidates: they refine, and find nothing."""
    note: str = ""
    """What a reader of the table has to know."""

    @property
    def name(self) -> str:
        """Engine and build, as the tables name them."""
        return f"{self.engine} ({label(self.build)})" if self.build else self.engine

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return "-".join([self.engine, *(f"{key}{value}" for key, value in sorted(self.build.items()))])


def label(setting: Setting) -> str:
    """A setting in a few words.

    >>> label({"nprobe": 8, "bound": 256})
    'nprobe 8, bound 256'
    """
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in setting.items()) or "default"


def chosen(engines: Iterable[str]) -> tuple[Contestant, ...]:
    """The contestants of these engines; all where none is named."""
    wanted = set(engines)
    return tuple(one for one in CONTESTANTS if not wanted or one.engine in wanted)


_OURS: tuple[Setting, ...] = tuple(
    {"nprobe": nprobe, "candidates": candidates, "margin": margin}
    for nprobe, candidates, margin in (
        (8, 20, 1.0),
        (8, 24, 1.0),
        (8, 32, 1.0),
        (16, 20, 1.0),
        (16, 32, 1.0),
        (16, 40, 1.0),
        (32, 40, 1.0),
        (32, 48, 1.0),
        (32, 256, 1.5),
        (32, 256, 2.0),
        (64, 512, 2.0),
        (64, 512, 2.5),
        (64, 512, 3.0),
        (128, 1024, 3.0),
        (256, 2048, 6.0),
    )
)

_OURS_ALL: tuple[Setting, ...] = tuple(  # for the whole of the exact top k, of vectors that lost nothing
    {"nprobe": nprobe, "candidates": candidates, "margin": margin}
    for nprobe, candidates, margin in (
        (64, 512, 2.5),
        (64, 512, 3.0),
        (128, 1024, 4.0),
        (128, 2048, 6.0),
        (256, 2048, 6.0),
        (256, 4096, 8.0),
    )
)

CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("colindex", _OURS, {"bits": 2}, ours=True),
    Contestant("colindex", _OURS, {"bits": 4}, ours=True),
    Contestant("colindex", _OURS, {"bits": 8}, ours=True),
    Contestant("colindex", _OURS_ALL, {"bits": 32}, ours=True),
    Contestant("colindex", _OURS, {"bits": 4, "pool_factor": 2}, ours=True),
    Contestant("colindex", _OURS, {"bits": 2, "dim": 64}, ours=True),
    Contestant(
        "tachiom",
        (
            {"k_centroids": 4, "k_docs_to_score": 60, "alpha": 0.15},
            {"k_centroids": 4, "k_docs_to_score": 60, "alpha": 0.25},
            {"k_centroids": 8, "k_docs_to_score": 150, "alpha": 0.25},
            {"k_centroids": 16, "k_docs_to_score": 400, "alpha": 0.25},
            {"k_centroids": 10, "k_docs_to_score": 200, "alpha": 0.45},
            {"k_centroids": 20, "k_docs_to_score": 500, "alpha": 0.45, "beta": 20},
            {"k_centroids": 20, "k_docs_to_score": 500, "alpha": 0.45, "beta": 50},
            {"k_centroids": 20, "k_docs_to_score": 500, "alpha": 0.45, "beta": 100},
            {"k_centroids": 20, "k_docs_to_score": 500, "alpha": 0.45},
            {"k_centroids": 40, "k_docs_to_score": 500, "alpha": 0.45},
        ),
        {"tokens_per_centroid": 64},
        note="PyPI's wheel, compiled for any x86-64; its makers advise to compile it for the machine",
    ),
    Contestant(
        "fast-plaid",
        (
            {"n_ivf_probe": 1, "n_full_scores": 64},
            {"n_ivf_probe": 2, "n_full_scores": 128},
            {"n_ivf_probe": 4, "n_full_scores": 256},
            {"n_ivf_probe": 8, "n_full_scores": 1024},
            {"n_ivf_probe": 8, "n_full_scores": 4096},
        ),
        {"nbits": 4},
    ),
    Contestant(
        "xtr-warp",
        (
            {},
            {"nprobe": 16, "bound": 256, "centroid_score_threshold": 0.0},
            {"nprobe": 32, "bound": 512, "centroid_score_threshold": 0.0},
            {"nprobe": 64, "bound": 512, "centroid_score_threshold": 0.0},
            {"nprobe": 128, "bound": 1024, "centroid_score_threshold": 0.0, "max_candidates": 1_000_000},
            {"nprobe": 256, "bound": 2048, "centroid_score_threshold": 0.0, "max_candidates": 1_000_000},
        ),
        {"nbits": 4},
    ),
    Contestant(
        "lancedb",
        (
            {"nprobes": 4},
            {"nprobes": 8, "refine_factor": 5},
            {"nprobes": 16, "refine_factor": 10},
            {"nprobes": 32, "refine_factor": 20},
        ),
        {"num_sub_vectors": 32},
    ),
    Contestant("exact", ({},), ours=True, builds=False, note="float32 BLAS over all tokens"),
    Contestant("maxsim-cpu", ({"documents": 256}, {}), builds=False, refines=True, note="exact, float32"),
)
