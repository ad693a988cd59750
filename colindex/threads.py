"""Our threads and those of BLAS.

The reference kernels multiply matrices: while threads of ours run them, BLAS has to keep to one, or they would wait for each
other's lock. That limit holds for the whole process, and taking it back is not safe where several threads set it; so it is
set by the caller of threads, and only one caller runs at a time. The native kernels ask BLAS for nothing: no limit is
needed, and a text encoder may use all its threads beside them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import threadpool_limits

from colindex.kernels import chosen, reference

__all__ = ["INDEPENDENT", "blas_threads", "one_blas_thread"]

INDEPENDENT: bool = chosen.nearest is not reference.nearest
"""Whether kernels run beside anything else without getting in its way."""


def blas_threads(count: int) -> AbstractContextManager[object]:
    """Around kernels that are run by one caller, who may use so many threads."""
    return nullcontext() if INDEPENDENT else threadpool_limits(limits=count, user_api="blas")


def one_blas_thread() -> AbstractContextManager[object]:
    """Around threads of ours that run kernels."""
    return blas_threads(1)
