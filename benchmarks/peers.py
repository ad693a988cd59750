"""colindex beside its peers: the same vectors, queries, threads and machine; recall of the exact top 10 beside every latency.

    python -m benchmarks.peers ~/vectors/scifact --subset 1000           every engine finishes; about 20 minutes
    python -m benchmarks.peers ~/vectors/scifact --engines colindex,tachiom,exact
    python -m benchmarks.peers --readme                                  README's table anew from benchmarks/results

(`make bench-peers VECTORS=~/vectors/scifact` installs the peers first; vectors come from `python -m benchmarks.vectors`.)

1. Reduce the vectors to 128 dims, once for all (`peer_data`).
2. Compute the exact answers (`peer_data`).
3. Build every index on all cores, each in a process of its own (`peer_measure`, `peer_process`, `peer_worker`).
4. Open them, each on one core, and warm up.
5. Measure in turn: every contestant, every setting, every query; then all of it again (`peer_contestants` lists them).
6. Write figures, tables and a plot to benchmarks/results (`peer_results`, `peer_report`).
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from benchmarks.peer_contestants import CONTESTANTS, chosen
from benchmarks.peer_data import DIM, Collection, collect
from benchmarks.peer_measure import Plan, build_all, search_all
from benchmarks.peer_report import build_table, markdown, plot, readme_block, search_table, with_block
from benchmarks.peer_results import BuildRow, Results, SearchRow

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ENGINES = sorted({one.engine for one in CONTESTANTS})
SEARCH_THREADS = 1
K = 10
FOLDERS = ("output", "peers_python", "scratch")


def machine() -> str:
    """Processor, cores, memory, Python."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores ({cpu}), {memory:.0f} GiB, Python {platform.python_version()}"


def commit() -> str:
    """The commit of the checkout, and whether files differ from it."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def command(context: click.Context, collection: Collection) -> str:
    """The command that gives such figures: the options that were set, but for folders of this machine."""
    words = ["python", "-m", "benchmarks.peers", f"VECTORS/{collection.name}"]
    for option in context.command.params:
        name = str(option.name)
        given = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if isinstance(option, click.Option) and given and name not in FOLDERS:
            value = context.params[name]
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            words += [option.opts[-1]] if option.is_flag else [option.opts[-1], text]
    return shlex.join(words)


def assembled(plan: Plan, command: str, builds: Sequence[BuildRow], searches: Sequence[SearchRow]) -> Results:
    """Rows, and where they come from."""
    collection = plan.collection
    return Results(
        collection=collection.name,
        subset=collection.subset,
        documents=collection.documents,
        tokens=collection.tokens,
        dim=DIM,
        queries=collection.queries,
        k=plan.k,
        search_threads=SEARCH_THREADS,
        build_threads=plan.build_threads,
        machine=machine(),
        commit=commit(),
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        command=command,
        builds=tuple(builds),
        searches=tuple(searches),
    )


def write(results: Results, folder: Path, talk: Console) -> None:
    """Step 6."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [results.save(folder), folder / f"peers-{results.label}.md"]
    written[1].write_text(markdown(results), encoding="utf-8")
    try:
        written += plot(results, folder)
    except ModuleNotFoundError:
        talk.print("no plot: matplotlib is not installed (pip install -c constraints.txt matplotlib)")
    talk.print(f"written: {', '.join(str(path) for path in written)}", soft_wrap=True)


def rewrite_readme(readme: Path, folder: Path) -> list[Path]:
    """Put the tables of every result, subsets last, between README's marks."""
    every = [Results.load(path) for path in folder.glob("peers-*.json")]
    if not every:
        raise click.ClickException(f"{folder}: expected results peers-*.json, found none; run the benchmark first.")
    every.sort(key=lambda results: (results.subset is not None, results.collection, results.subset or 0))
    pictures = folder.resolve().relative_to(readme.resolve().parent).as_posix()
    try:
        text = with_block(readme.read_text(encoding="utf-8"), readme_block(every, pictures))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    readme.write_text(text, encoding="utf-8")
    return [folder / f"peers-{results.label}.json" for results in every]


def engine_names(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The names in a list with commas."""
    names = tuple(name.strip() for name in (value or "").split(",") if name.strip())
    wrong = sorted(set(names) - set(ENGINES))
    if wrong:
        raise click.BadParameter(f"expected some of {', '.join(ENGINES)}, got {', '.join(wrong)}.")
    return names


@click.command(epilog="Example: python -m benchmarks.peers ~/vectors/scifact --subset 1000 --engines colindex,tachiom")
@click.argument("vectors", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--subset", type=click.IntRange(min=10), help="The first so many documents. [all]")
@click.option(
    "--queries", type=click.IntRange(min=1), default=300, show_default=True, help="The first so many queries."
)
@click.option("--engines", callback=engine_names, help=f"Some of: {','.join(ENGINES)}. [all]")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Repetitions, interleaved.")
@click.option("--scratch", type=click.Path(path_type=Path), default=Path.home() / "peers", show_default="~/peers",
              help="Arrays and indexes, kept for the next run.")  # fmt: skip
@click.option("--peers-python", type=click.Path(path_type=Path), default=ROOT / ".venv-peers" / "bin" / "python",
              show_default=".venv-peers/bin/python", help="Python of the venv that has the peers.")  # fmt: skip
@click.option(
    "--build-threads", type=click.IntRange(min=1), default=len(os.sched_getaffinity(0)), show_default="all cores"
)
@click.option(
    "--build-limit",
    type=float,
    default=3600,
    show_default=True,
    help="Seconds for one build; the table then says that it takes more.",
)
@click.option(
    "--answer-limit", type=float, default=1800, show_default=True, help="Seconds for one repetition of one setting."
)
@click.option("--warm-up", type=float, default=30, show_default=True, help="Seconds of warm-up for each index.")
@click.option("--patience", type=float, default=60, show_default=True,
              help="A setting that takes longer than so many seconds for all queries is not repeated.")  # fmt: skip
@click.option("--rebuild", is_flag=True, help="Build the peers' indexes anew too.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS, show_default="benchmarks/results")
@click.option("--readme", is_flag=True, help="Measure nothing: write README's table anew from the results there are.")
def main(
    vectors: Path | None,
    subset: int | None,
    queries: int,
    engines: tuple[str, ...],
    repeats: int,
    scratch: Path,
    peers_python: Path,
    build_threads: int,
    build_limit: float,
    answer_limit: float,
    warm_up: float,
    patience: float,
    rebuild: bool,
    output: Path,
    readme: bool,
) -> None:
    """Measure colindex and its peers on the VECTORS of a collection (a folder with docs.npz and queries.npz)."""
    talk = Console(stderr=True, highlight=False)
    if readme:
        used = rewrite_readme(ROOT / "README.md", output)
        talk.print(f"README.md: {len(used)} results")
        return
    if vectors is None:
        raise click.UsageError("expected VECTORS, the folder that `python -m benchmarks.vectors` wrote.")

    def say(words: str) -> None:
        talk.print(f"{datetime.now(UTC):%H:%M:%S} {words}", markup=False, soft_wrap=True)

    collection: Collection = collect(vectors, scratch.absolute(), subset, queries, say)
    plan = Plan(
        collection=collection,
        our_python=Path(sys.executable),
        peers_python=peers_python.absolute(),
        k=K,
        repetitions=repeats,
        build_threads=build_threads,
        build_limit=build_limit,
        answer_limit=answer_limit,
        warm_up=warm_up,
        patience=patience,
        rebuild=rebuild,
    )
    contestants = chosen(engines)
    builds = build_all(plan, contestants, say)
    searches = search_all(plan, contestants, builds, say)
    results = assembled(plan, command(click.get_current_context(), collection), builds, searches)
    write(results, output, talk)
    wide = Console() if sys.stdout.isatty() else Console(width=180)
    wide.print(build_table(results), search_table(results), sep="\n")


if __name__ == "__main__":
    main()
