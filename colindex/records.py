"""How is one stored vector laid out in bytes?

A record is everything that refinement needs to know about one vector, side by side, little-endian, without padding:

    centroid id   uint16 where there are at most 65,536 centroids, else uint32
    length        float16, the factor of the direction
    code          ceil(dim * bits / 8) bytes, the direction (`colindex.kernels.reference.codes`)

At 32 bits the code is the vector itself, in float32, and the length 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.errors import ParameterError, VectorError
from colindex.params import BITS

__all__ = ["RecordLayout"]

_LENGTH_BYTES = 2
_MAX_SHORT_CENTROIDS = 2**16
_MAX_CENTROIDS = 2**32


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """The byte layout of the records of one index.

    >>> RecordLayout(dim=128, bits=2, n_centroids=21_010).record_bytes
    36
    """

    dim: int
    """Values in a stored vector."""
    bits: int
    """Bits a dimension of the code: one of `BITS`."""
    n_centroids: int
    """Centroids that ids count up to."""

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ParameterError(
                f"record layout: bits: expected one of {', '.join(map(str, BITS))}, got {self.bits!r}."
            )
        if self.dim < 1:
            raise ParameterError(f"record layout: dim: expected at least 1, got {self.dim!r}.")
        if not 1 <= self.n_centroids <= _MAX_CENTROIDS:
            raise ParameterError(f"record layout: n_centroids: expected 1 to 2**32, got {self.n_centroids!r}.")

    @property
    def centroid_bytes(self) -> int:
        """Bytes of a centroid id, 2 or 4."""
        return 2 if self.n_centroids <= _MAX_SHORT_CENTROIDS else 4

    @property
    def most_centroids(self) -> int:
        """Centroids that ids of these bytes can name."""
        return _MAX_SHORT_CENTROIDS if self.centroid_bytes == 2 else _MAX_CENTROIDS

    @property
    def code_bytes(self) -> int:
        """Bytes of a code."""
        return -(-self.dim * self.bits // 8)

    @property
    def record_bytes(self) -> int:
        """Bytes of a record."""
        return self.centroid_bytes + _LENGTH_BYTES + self.code_bytes

    def pack(
        self, centroids: NDArray[np.uint32], lengths: NDArray[np.float16], codes: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Put the parts of n vectors side by side.

        Args:
            centroids: integers [n], each below `n_centroids`.
            lengths: float16 [n].
            codes: uint8 [n, code_bytes].

        Returns:
            uint8 [n, record_bytes].

        Raises:
            VectorError: the parts differ in number or do not fit the layout.
        """
        count = len(centroids)
        if len(lengths) != count or codes.shape != (count, self.code_bytes):
            raise VectorError(
                f"records: expected {count} lengths and codes of shape {(count, self.code_bytes)} for {count} "
                f"centroid ids, got {len(lengths)} lengths and codes of shape {codes.shape}."
            )
        if count and int(centroids.max()) >= self.n_centroids:
            raise VectorError(
                f"records: centroid ids: expected below {self.n_centroids:,}, got {int(centroids.max()):,}; "
                "use the codebook that assigned them."
            )
        records = np.empty((count, self.record_bytes), np.uint8)
        start, end = self.centroid_bytes, self.centroid_bytes + _LENGTH_BYTES
        records[:, :start].view(f"<u{start}")[:, 0] = centroids
        records[:, start:end].view("<f2")[:, 0] = lengths
        records[:, end:] = codes
        return records

    def unpack(self, records: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], NDArray[np.float16], NDArray[np.uint8]]:
        """Centroid ids uint32 [n], lengths float16 [n] and codes uint8 [n, code_bytes] of records.

        Lengths and codes, and ids of four bytes, are views of the records.

        Raises:
            VectorError: the records have another size than the layout.
        """
        if records.ndim != 2 or records.shape[1] != self.record_bytes or records.dtype != np.uint8:
            raise VectorError(
                f"records: expected uint8 of shape [n, {self.record_bytes}], got {records.dtype} {records.shape}; "
                "use the codebook that the records were written with."
            )
        start, end = self.centroid_bytes, self.centroid_bytes + _LENGTH_BYTES
        centroids = records[:, :start].view(f"<u{start}")[:, 0].astype(np.uint32, copy=False)
        return centroids, records[:, start:end].view("<f2")[:, 0], records[:, end:]
