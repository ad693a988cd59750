from typing import Any

import numpy as np
from numpy.typing import NDArray

INTERFACE: int

def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...
def top_centroids(
    query: NDArray[np.float32],
    values: NDArray[np.uint8],
    steps: NDArray[np.float32],
    spreads: NDArray[np.float32],
    numbers: NDArray[np.int32] | None,
    nprobe: int,
    beyond: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
def top_centroids_of_cells(
    query: NDArray[np.float32],
    values: NDArray[np.uint8],
    steps: NDArray[np.float32],
    spreads: NDArray[np.float32],
    numbers: NDArray[np.int32],
    centres: NDArray[np.uint8],
    centre_steps: NDArray[np.float32],
    centre_spreads: NDArray[np.float32],
    starts: NDArray[np.int32],
    sizes: NDArray[np.int32],
    scored: int,
    nprobe: int,
    beyond: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
def nearest_cells(
    rows: NDArray[np.int8], centres: NDArray[np.uint8], squares: NDArray[np.int32], cells: NDArray[np.int32]
) -> None: ...
def gather(
    ids: NDArray[np.int32],
    scores: NDArray[np.float32],
    postings: NDArray[Any],
    places: NDArray[Any],
    n_documents: int,
    limit: int,
    allowed: NDArray[np.uint8] | None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], int, int]: ...
def score_records(
    query: NDArray[np.float32],
    records: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    centroids: NDArray[np.int8] | NDArray[np.int16] | NDArray[np.float32],
    steps: NDArray[np.float32],
    levels: NDArray[np.float32],
    bits: int,
    centroid_bytes: int,
    unit: bool,
) -> NDArray[np.float32]: ...
def refine(
    query: NDArray[np.float32],
    documents: NDArray[np.int64],
    estimates: NDArray[np.float32],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    reader: object,
    k: int,
    margin: float,
    first: int,
    most: int,
    ahead: int,
    announced: bool,
    centroids: NDArray[np.int8] | NDArray[np.int16] | NDArray[np.float32],
    steps: NDArray[np.float32],
    levels: NDArray[np.float32],
    bits: int,
    centroid_bytes: int,
    unit: bool,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.float32],
    int,
    int,
    float,
    float,
    tuple[int, ...],
    tuple[int, ...] | None,
]: ...
def similarities(
    query: NDArray[np.float32],
    records: NDArray[np.uint8],
    centroids: NDArray[np.int8] | NDArray[np.int16] | NDArray[np.float32],
    steps: NDArray[np.float32],
    levels: NDArray[np.float32],
    bits: int,
    centroid_bytes: int,
    unit: bool,
) -> NDArray[np.float32]: ...
def encode_trellis(
    scaled: NDArray[np.float32],
    levels: NDArray[np.float32],
    whole: NDArray[np.int32],
    step: float,
    reach: float,
    bits: int,
    codes: NDArray[np.uint8],
) -> None: ...
def encode_residuals(
    residuals: NDArray[np.float32],
    levels: NDArray[np.float32],
    whole: NDArray[np.int32],
    step: float,
    reach: float,
    bits: int,
    codes: NDArray[np.uint8],
    lengths: NDArray[np.float32],
) -> None: ...
def nearest(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    centroids: NDArray[np.float32],
    centroid_offsets: NDArray[np.int64],
    ids: NDArray[np.int32],
    scores: NDArray[np.float64],
) -> None: ...
def add_rows(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], ids: NDArray[np.int32], sums: NDArray[np.float64]
) -> None: ...
def project(
    vectors: NDArray[Any], half: bool, columns: NDArray[np.float64], unit: bool, projected: NDArray[np.float32]
) -> None: ...
def ward_labels(vectors: NDArray[np.float32], n_clusters: int, labels: NDArray[np.int32]) -> None: ...
