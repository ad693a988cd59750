"""Which body of the kernels runs here: the native one where it was built, else the reference?

Callers import the kernels from here. Kernels that have no native body are the reference's everywhere. `BODY` says which body
it is, and `MISSING` why it is not the native one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from colindex.kernels.reference import (
    best,
    decode_records,
    decode_trellis,
    grid_columns,
    invert,
    maxsim,
    trellis_states,
)
from colindex.kernels.rounds import Refined

INTERFACE = 6
"""Of the native body: one that was built from older sources would take these arrays for something else."""


def _check_interface(native: Any) -> None:
    """Refuse a library that was built from older sources."""
    if getattr(native, "INTERFACE", 1) != INTERFACE:
        raise ImportError(
            f"{native.__file__} was built from other sources; build it again: setup.py build_ext --inplace"
        )


refine: Callable[..., Refined] | None
"""All rounds of refinement in one call; None where `colindex.refinement` has to go round by round."""

try:
    from colindex.kernels.native import _native

    _check_interface(_native)
    from colindex.kernels.native.build import add_rows, encode_residuals, encode_trellis, nearest, project, ward_labels
    from colindex.kernels.native.refine import refine as all_rounds
    from colindex.kernels.native.search import gather, nearest_cells, score_records, similarities, top_centroids
except ImportError as error:
    from colindex.kernels.reference import (
        add_rows,
        encode_residuals,
        encode_trellis,
        gather,
        nearest,
        nearest_cells,
        project,
        score_records,
        similarities,
        top_centroids,
        ward_labels,
    )

    refine = None
    BODY, MISSING = "reference (NumPy)", str(error)
else:
    refine = all_rounds
    BODY, MISSING = f"native ({_native.instruction_set()})", ""

__all__ = [
    "BODY",
    "MISSING",
    "add_rows",
    "best",
    "decode_records",
    "decode_trellis",
    "encode_residuals",
    "encode_trellis",
    "gather",
    "grid_columns",
    "invert",
    "maxsim",
    "nearest",
    "nearest_cells",
    "project",
    "refine",
    "score_records",
    "similarities",
    "top_centroids",
    "trellis_states",
    "ward_labels",
]
