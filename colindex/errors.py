"""The error tree of colindex, whole.

    ColindexError
    ├── StorageError              bytes on disk: see `colindex.storage.errors`
    ├── InputError   (ValueError) what was handed in to be indexed or searched
    │   ├── CorpusError           a corpus file: missing, empty, or malformed at a line
    │   ├── DuplicateIdError      one id, two documents
    │   ├── VectorError           vectors of a wrong dim, dtype or shape, or not finite
    │   └── QueryError            a query that cannot be searched (k < 1, wrong dim)
    │       ├── FilterError       a condition on metadata that cannot be evaluated
    │       └── DocumentNotFoundError an id that is not in the index
    ├── ParameterError (ValueError) a setting out of its range
    ├── MemoryBudgetError (ValueError) a budget smaller than what must stay resident, or than what a build needs
    └── EncoderError              a model that cannot be loaded or does not fit
        ├── EncoderNotFoundError (FileNotFoundError)
        ├── EncoderMismatchError  the encoder is not the one that the index was built with
        └── MissingDependencyError (ImportError) an optional package is not installed

Each message says where, what was expected, what was found, and the way out. The builtin in brackets is a
second base class, so that callers need no import to catch it.
"""

from colindex.storage.errors import (
    ColindexError,
    CorruptIndexError,
    DiskSpaceError,
    FormatTooNewError,
    IndexExistsError,
    IndexLockedError,
    IndexNotBuiltError,
    IndexNotFoundError,
    IndexReadOnlyError,
    InvalidIdError,
    StorageError,
)

__all__ = [
    "ColindexError",
    "CorpusError",
    "CorruptIndexError",
    "DiskSpaceError",
    "DocumentNotFoundError",
    "DuplicateIdError",
    "EncoderError",
    "EncoderMismatchError",
    "EncoderNotFoundError",
    "FilterError",
    "FormatTooNewError",
    "IndexExistsError",
    "IndexLockedError",
    "IndexNotBuiltError",
    "IndexNotFoundError",
    "IndexReadOnlyError",
    "InputError",
    "InvalidIdError",
    "MemoryBudgetError",
    "MissingDependencyError",
    "ParameterError",
    "QueryError",
    "StorageError",
    "VectorError",
]


class InputError(ColindexError, ValueError):
    """Something handed in cannot be indexed or searched."""


class CorpusError(InputError):
    """A corpus file is missing, empty, or malformed."""


class DuplicateIdError(InputError):
    """One id stands for two documents."""


class VectorError(InputError):
    """Vectors of a wrong dim, dtype or shape, or with values that are not finite."""


class QueryError(InputError):
    """A query that cannot be searched."""


class FilterError(QueryError):
    """A condition on metadata that cannot be evaluated."""


class DocumentNotFoundError(QueryError):
    """An id that is not in the index."""


class ParameterError(ColindexError, ValueError):
    """A setting is out of its range."""


class MemoryBudgetError(ColindexError, ValueError):
    """The memory budget is smaller than what must stay resident, or than what a build needs."""


class EncoderError(ColindexError):
    """An encoder cannot be loaded or does not fit."""


class EncoderNotFoundError(EncoderError, FileNotFoundError):
    """No encoder has this name or stands at this path."""


class EncoderMismatchError(EncoderError, ValueError):
    """The encoder is not the one that the index was built with."""


class MissingDependencyError(EncoderError, ImportError):
    """An optional package is not installed."""
