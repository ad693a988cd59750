"""The kernels in NumPy: what each of them means."""

from colindex.kernels.reference.codes import decode_records, decode_trellis, encode_trellis, trellis_states
from colindex.kernels.reference.gather import gather, invert
from colindex.kernels.reference.maxsim import maxsim
from colindex.kernels.reference.probe import best, top_centroids
from colindex.kernels.reference.ward import ward_labels

__all__ = [
    "best",
    "decode_records",
    "decode_trellis",
    "encode_trellis",
    "gather",
    "invert",
    "maxsim",
    "top_centroids",
    "trellis_states",
    "ward_labels",
]
