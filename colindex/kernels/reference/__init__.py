"""The kernels in NumPy: what each of them means."""

from colindex.kernels.reference.assign import add_rows, nearest
from colindex.kernels.reference.cells import nearest_cells
from colindex.kernels.reference.codes import decode_records, decode_trellis, encode_trellis, trellis_states
from colindex.kernels.reference.gather import gather, invert
from colindex.kernels.reference.maxsim import maxsim
from colindex.kernels.reference.probe import best, top_centroids
from colindex.kernels.reference.project import grid_columns, project
from colindex.kernels.reference.refine import score_records
from colindex.kernels.reference.residuals import encode_residuals
from colindex.kernels.reference.similarities import similarities
from colindex.kernels.reference.ward import ward_labels

__all__ = [
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
    "score_records",
    "similarities",
    "top_centroids",
    "trellis_states",
    "ward_labels",
]
