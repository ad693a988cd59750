"""Ward clustering of the token vectors of one document.

Which tokens of a document say nearly the same, so that one vector can stand for them?

1. **Distances.** Between all pairs of unit vectors: 1 - cosine, held to [0, 2].
2. **Linkage.** Ward's method (Ward, 1963) on the condensed distances: always merge the two clusters whose union
   raises the within-cluster variance least. Cosine distance is handed to it as if it were Euclidean: so do
   PyLate > 1.3.4 and sentence-transformers, and pooled indexes are compared with theirs.
3. **Cut.** The highest cut of the tree that leaves no more than the wanted number of clusters.
4. **Labels.** Clusters are numbered by their first member, so that labels do not depend on the library.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ward_labels"]


def ward_labels(vectors: NDArray[np.float32], n_clusters: int) -> NDArray[np.int32]:
    """Assign each vector to one of at most `n_clusters` clusters.

    Args:
        vectors: float32 [n, dim], each of unit length.
        n_clusters: 1 or more. Fewer clusters come back only where tied distances leave no such cut, as among
            equal vectors.

    Returns:
        int32 [n]: 0 for the cluster of the first vector, and each further cluster numbered as it first appears.

    Memory: two matrices of n x n values, so callers bound n.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # here: searches load the kernels too, and never cluster
    from scipy.spatial.distance import squareform

    if n_clusters >= len(vectors):
        return np.arange(len(vectors), dtype=np.int32)
    if n_clusters == 1:
        return np.zeros(len(vectors), dtype=np.int32)
    distances = np.clip(1 - vectors @ vectors.T, 0, 2)  # float32 [n, n]
    tree = linkage(squareform(distances, checks=False), method="ward")  # squareform reads the upper triangle only
    return _numbered_by_first_member(fcluster(tree, t=n_clusters, criterion="maxclust"))


def _numbered_by_first_member(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]
