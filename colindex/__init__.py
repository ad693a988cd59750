"""colindex: a late-interaction index that is larger than memory.

The public names, each loaded when it is first asked for: `import colindex` alone loads no torch, transformers, faiss,
zarr or lmdb.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colindex import errors
    from colindex.encoder import Encoder
    from colindex.explain import Explanation
    from colindex.index import Index
    from colindex.match import Match
    from colindex.params import BuildParams, SearchParams
    from colindex.types import Document, Hit, SearchStats, TokenBatch

__all__ = [
    "BuildParams",
    "Document",
    "Encoder",
    "Explanation",
    "Hit",
    "Index",
    "Match",
    "SearchParams",
    "SearchStats",
    "TokenBatch",
    "__version__",
    "errors",
]

__version__ = "0.1.0"

_HOMES = {
    "BuildParams": "colindex.params",
    "Document": "colindex.types",
    "Encoder": "colindex.encoder",
    "Explanation": "colindex.explain",
    "Hit": "colindex.types",
    "Index": "colindex.index",
    "Match": "colindex.match",
    "SearchParams": "colindex.params",
    "SearchStats": "colindex.types",
    "TokenBatch": "colindex.types",
}


def __getattr__(name: str) -> object:
    """Load a public name at its first use (PEP 562) and keep it."""
    if name == "errors":
        return import_module("colindex.errors")  # the import binds the name in this module
    if name not in _HOMES:
        raise AttributeError(f"module 'colindex' has no attribute {name!r}; its names are {', '.join(__all__)}.")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Show the names that are not loaded yet too."""
    return sorted({*globals(), *__all__})
