"""What several commands ask for: the same words, the same checks, one object each.

1. A decorator adds an option, or a group of options, to a command (`search_options`).
2. `gathered` hands the group to the command as one frozen value.
3. `open_index` opens an index as that value says, with the encoder that the index names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from colindex.errors import EncoderError, MemoryBudgetError, ParameterError
from colindex.params import SearchParams, parse_bytes

if TYPE_CHECKING:
    from colindex.encoder import Encoder
    from colindex.index import Index

__all__ = [
    "ARGUMENTS",
    "DEFAULT_ENCODER",
    "OpenOptions",
    "SearchOptions",
    "encoder_like",
    "format_option",
    "gathered",
    "index_argument",
    "load_encoder",
    "memory_option",
    "open_index",
    "open_options",
    "quiet_option",
    "search_options",
    "where_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])
ARGUMENTS = "colindex.arguments"
"""Under this name the context keeps the command line as it was typed."""
DEFAULT_ENCODER = "minilm"
_DEFAULTS = SearchParams()


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How to open an index with its encoder."""

    memory: str
    threads: int
    encoder: str | None
    device: str | None


@dataclass(frozen=True, slots=True)
class SearchOptions(OpenOptions):
    """How to open an index and search it."""

    k: int
    nprobe: int
    candidates: int
    margin: float
    exact: bool

    @property
    def params(self) -> SearchParams:
        """The settings of a search; without `--exact` the index decides whether exact search is faster."""
        exact = True if self.exact else None
        return SearchParams(nprobe=self.nprobe, candidates=self.candidates, margin=self.margin, exact=exact)


def gathered(kind: type, name: str) -> Callable[[Command], Callable[..., Any]]:
    """Collect the options called like the fields of the dataclass `kind` into one argument called `name`."""

    def decorate(command: Command) -> Callable[..., Any]:
        @wraps(command)
        def run(**options: Any) -> object:
            values = {field.name: options.pop(field.name) for field in fields(kind)}
            return command(**options, **{name: kind(**values)})

        return run

    return decorate


def search_options(k: int) -> Callable[[Command], Callable[..., Any]]:
    """The options of `SearchOptions`, as the argument `options`; `k` is the default of `-k`."""
    added = (
        click.option("-k", default=k, type=click.IntRange(min=1), help="Documents to return for each query."),
        click.option("--exact", is_flag=True, help="Score every document."),
        click.option(
            "--nprobe",
            default=_DEFAULTS.nprobe,
            type=click.IntRange(min=1),
            help="Centroids probed for each query token.",
        ),
        click.option(
            "--candidates",
            default=_DEFAULTS.candidates,
            type=click.IntRange(min=1),
            help="Score at most this many documents, or 2 k where that is more.",
        ),
        click.option(
            "--margin",
            default=_DEFAULTS.margin,
            type=click.FloatRange(min=0),
            help="Standard deviations by which a document may beat its estimate: fewer are faster.",
        ),
    )
    return lambda command: _with((*added, *_opening()), gathered(SearchOptions, "options")(command))


def where_option(command: Command) -> Command:
    """`--where CONDITION`, of a search."""
    text = "Only documents whose metadata meet an SQL expression."
    return click.option("--where", metavar="CONDITION", help=text)(command)


def memory_option(default: str, text: str, parse: Callable[[str], int] = parse_bytes) -> Callable[[Command], Command]:
    """`--memory SIZE`, which `parse` has to take."""

    def checked(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
        """A size such as 512MiB, kept as it was typed; raises BadParameter for anything else."""
        try:
            parse(value)
        except (ParameterError, MemoryBudgetError) as error:
            raise click.BadParameter(str(error), ctx, parameter) from error
        return value

    return click.option("--memory", default=default, callback=checked, metavar="SIZE", help=text)


def format_option(*formats: str) -> Callable[[Command], Command]:
    """`--format`, the first one being the default."""
    return click.option(
        "--format", "format_", default=formats[0], type=click.Choice(formats), help="How to write the results."
    )


def quiet_option(command: Command) -> Command:
    """`--quiet`."""
    return click.option("-q", "--quiet", is_flag=True, help="Show no progress.")(command)


def index_argument(command: Command) -> Command:
    """The folder of an index; whether one stands there is for the index to say."""
    return click.argument("index", type=click.Path(path_type=Path))(command)


def open_options(command: Command) -> Callable[..., Any]:
    """The options of `OpenOptions`, as the argument `options`."""
    return _with(_opening(), gathered(OpenOptions, "options")(command))


def _opening() -> tuple[Callable[[Command], Command], ...]:
    return (
        memory_option("512MiB", "Bound on what the index keeps in memory."),
        click.option("--threads", default=1, type=click.IntRange(min=1), help="Threads that search."),
        click.option("--encoder", metavar="NAME", help="Encoder to load instead of the one the index names."),
        click.option("--device", help="Device of the encoder, such as cpu or cuda."),
    )


def _with(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    """A command with some options, which its help shows in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def open_index(path: Path, options: OpenOptions, encoder: Encoder | None = None, *, refresh: bool = False) -> Index:
    """Open an index together with its encoder, or with one that is loaded; with `refresh` searches see new generations.

    Raises:
        IndexNotFoundError: there is none.
        EncoderError: its encoder cannot be loaded, or is another one.
        MemoryBudgetError: the memory is too small.
    """
    from colindex.index import Index

    encoder = encoder or load_encoder(path, options)
    return Index.open(path, encoder=encoder, memory=options.memory, threads=options.threads, refresh=refresh)


def load_encoder(path: Path, options: OpenOptions) -> Encoder:
    """The encoder that the options or the index name.

    Raises:
        IndexNotFoundError: there is no index.
        EncoderError: the encoder cannot be loaded, or neither names one.
    """
    from colindex.storage.catalog import Catalog

    with Catalog.open_reader(path) as catalog:  # the catalog alone: the index is opened once, with its encoder
        fingerprint = catalog.manifest().encoder
    if fingerprint is None and options.encoder is None:
        raise EncoderError(f"{path}: built from vectors, so it names no encoder; name one with --encoder.")
    return encoder_like(fingerprint or {}, options.encoder, device=options.device)


def encoder_like(fingerprint: Mapping[str, Any], name: str | None, **settings: Any) -> Encoder:
    """The encoder of an index, or the one that is named instead, with the index's window; settings as of `Encoder.load`."""
    from colindex.encoder import Encoder

    return Encoder.load(name or str(fingerprint["name"]), window=fingerprint.get("window", "document"), **settings)
