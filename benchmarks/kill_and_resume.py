"""A build that is killed again and again, and resumed each time, against one that was left alone.

    python -m benchmarks.kill_and_resume samples/wikipedia-2k.jsonl.gz --queries samples/queries.jsonl

1. `colindex build` once, undisturbed, as a user would.
2. The same command with `--resume`, killed (SIGKILL) at ten random moments; after each kill a search has to say that there
   is no index yet, or answer. Then it is left to finish.
3. `colindex verify` finds nothing; hits and scores of all queries are compared, and so is every file but the catalog.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

COLINDEX = (sys.executable, "-m", "colindex")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One command, finished."""
    return subprocess.run([*COLINDEX, *arguments], capture_output=True, text=True, check=False)


def killed(arguments: list[str], after: float) -> bool:
    """Whether the command was still running after so many seconds; it is dead now."""
    with subprocess.Popen([*COLINDEX, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return True
    return False


def contents(index: Path) -> dict[str, bytes]:
    """Every file but the catalog and the lock, which hold times."""
    files = (path for path in index.rglob("*") if path.is_file() and path.name != "writer.lock")
    return {str(path.relative_to(index)): path.read_bytes() for path in files if "catalog" not in str(path)}


@click.command()
@click.argument("corpus", type=click.Path(exists=True, path_type=Path))
@click.option("--queries", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--kills", default=10, show_default=True)
@click.option("--longest", default=35.0, show_default=True, help="Seconds that an attempt may live.")
@click.option("--seed", default=0, show_default=True)
def main(corpus: Path, queries: Path, kills: int, longest: float, seed: int) -> None:
    """Kill a build at random moments and compare what comes out."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="colindex-kill-"))
    whole, broken = folder / "whole.colindex", folder / "broken.colindex"
    start = time.perf_counter()
    run("build", str(corpus), "-o", str(whole)).check_returncode()
    click.echo(f"undisturbed: {time.perf_counter() - start:.0f} s")
    build = ["build", str(corpus), "-o", str(broken), "--resume"]
    died = 0
    while died < kills:
        moment = rng.uniform(1.0, longest)
        if not killed(build, moment):
            click.echo(f"finished before kill {died + 1}: starting over")
            shutil.rmtree(broken)
            continue
        died += 1
        spoken = run("search", str(broken), "anything", "-k", "1", "--encoder", "minilm")
        said = (spoken.stderr.strip().splitlines() or ["(an answer)"])[-1]
        click.echo(f"kill {died} after {moment:.1f} s; a search says: {said[:110]}")
    run(*build).check_returncode()
    problems = [
        *(["verify finds something"] if run("verify", str(broken)).returncode else []),
        *(["files differ"] if contents(whole) != contents(broken) else []),
        *(["answers differ"] if _answers(whole, queries) != _answers(broken, queries) else []),
    ]
    shutil.rmtree(folder)
    if problems:
        raise click.ClickException("; ".join(problems))
    click.echo(f"{kills} kills: the same files, hits and scores")


def _answers(index: Path, queries: Path) -> str:
    done = subprocess.run(
        [*COLINDEX, "search", str(index), "-", "--format", "jsonl"],
        input=queries.read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
