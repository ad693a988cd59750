"""Drift: how far does what was added to an index lie from what its codebook was learned from?

1. *Measure* each chunk that is added: the squared residuals of its vectors, their squared lengths, and how many of them have a
   vocabulary id without centroids of its own.
2. *Merge* the measures of all chunks since the codebook was trained: they are sums, so the order does not matter.
3. *Judge*: the energy, mean squared residual over mean squared length, against that of the build's own sample. Records lose
   in proportion to it. Beyond a threshold a new codebook is worth its work, and `advice` says so.
4. *Judge growth* too, which energy does not show: the documents that were there first stay under the few centroids of their
   time. Searching estimates their scores by those, and gives them up among others that have finer ones.

Expansion (`colindex.expansion`) comes before the measure: drift is what it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import Codebook
from colindex.expansion import squared_residuals

__all__ = ["GROWN_AT", "RETRAIN_AT", "Drift", "measure"]

RETRAIN_AT = 1.5
"""Energy of what was added over the build's from which on retraining is advised. Recall of the exact top 10 by retraining on
the index's own records, no centroids added: SciFact at 1.08 loses .007; SciFact added to npl, at 2.11, wins .027, and .049 where
the number of centroids grows with it (docs/LOG.md)."""
GROWN_AT = 4
"""Vectors of an index over those of its build from which on building it anew is advised. It wins .015 of the exact top 10 on
wiki20k at 4 and .047 at 10; on wiki100k .012 at 10, .30 of what the build held; on SciFact .006 at 10 (docs/LOG.md)."""
_FEW_TOKENS = 1 << 18
"""An index of fewer vectors is not told that it has grown: each centroid there stands for few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What was added to an index since its codebook was trained."""

    tokens: int
    """Stored vectors."""
    unknown: int
    """Those of them whose vocabulary id had no group."""
    squared_residuals: float
    """Sum over all of them."""
    squared_lengths: float
    """Sum over all of them."""
    built_energy: float
    """Mean squared residual over mean squared length when the codebook was trained."""
    built_tokens: int = 0
    """Stored vectors of the index before anything was added; 0 where nobody noted it."""

    @classmethod
    def none(cls, codebook: Codebook, built_tokens: int) -> Drift:
        """Of nothing, measured against a codebook's build."""
        return cls(
            tokens=0,
            unknown=0,
            squared_residuals=0.0,
            squared_lengths=0.0,
            built_energy=codebook.residual_energy,
            built_tokens=built_tokens,
        )

    @property
    def energy(self) -> float:
        """Mean squared residual over mean squared length of what was added."""
        return self.squared_residuals / self.squared_lengths if self.squared_lengths else 0.0

    @property
    def ratio(self) -> float:
        """Energy of what was added over the build's; 1 where neither has any."""
        if self.built_energy:
            return self.energy / self.built_energy
        return float("inf") if self.energy else 1.0

    @property
    def unknown_share(self) -> float:
        """Share of the added vectors whose vocabulary id had no group."""
        return self.unknown / self.tokens if self.tokens else 0.0

    def merged(self, other: Drift) -> Drift:
        """Both together, measured against the same build."""
        return Drift(
            tokens=self.tokens + other.tokens,
            unknown=self.unknown + other.unknown,
            squared_residuals=self.squared_residuals + other.squared_residuals,
            squared_lengths=self.squared_lengths + other.squared_lengths,
            built_energy=self.built_energy,
            built_tokens=max(self.built_tokens, other.built_tokens),
        )

    def growth(self, tokens: int) -> float:
        """The vectors of an index of so many over those before anything was added; 1 where that is not known."""
        return tokens / self.built_tokens if self.built_tokens else 1.0

    def advice(self, tokens: int) -> str | None:
        """What to do about it, in an index of so many vectors; None where nothing is to be done."""
        if not self.tokens:
            return None
        if self.ratio >= RETRAIN_AT:
            return (
                f"the residual energy of what was added is {self.ratio:.2f} times the build's (retraining pays from "
                f"{RETRAIN_AT} on); run `colindex compact --retrain`, or build an index of vectors anew: retraining has only "
                "what it stored of them."
            )
        if tokens >= _FEW_TOKENS and self.growth(tokens) >= GROWN_AT:
            return (
                f"the index holds {self.growth(tokens):.1f} times the vectors that its codebook was trained for, and finds the "
                "documents of its build less well; run `colindex compact --retrain` where it has its texts, or build an index "
                "of vectors anew: retrained from what it stored of them it may lose more than it wins."
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """A JSON object with everything, as a manifest holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Drift:
        """What `to_json` gave; what a later version may have added is left out, and an earlier one noted no `built_tokens`."""
        return cls(
            tokens=int(value["tokens"]),
            unknown=int(value["unknown"]),
            squared_residuals=float(value["squared_residuals"]),
            squared_lengths=float(value["squared_lengths"]),
            built_energy=float(value["built_energy"]),
            built_tokens=int(value.get("built_tokens", 0)),
        )


def measure(
    codebook: Codebook,
    projected: NDArray[np.float32],
    centroids: NDArray[np.uint32],
    token_ids: NDArray[np.int32] | None,
) -> Drift:
    """The drift of one chunk.

    Args:
        codebook: the one that the chunk was coded with.
        projected: float32 [n, dim], from `Codebook.project`.
        centroids: uint32 [n], the centroid of each, from `Codebook.encode`.
        token_ids: int32 [n], the vocabulary id of each, or None.
    """
    residuals, lengths = squared_residuals(projected, codebook.centroids, centroids)
    known = codebook.clustering.knows(token_ids, len(projected))
    return Drift(
        tokens=len(projected),
        unknown=int(len(projected) - np.count_nonzero(known)),
        squared_residuals=float(residuals.sum()),
        squared_lengths=float(lengths.sum()),
        built_energy=codebook.residual_energy,
    )
