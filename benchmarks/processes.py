"""A measured function in a process of its own, inside a memory limit that the kernel enforces.

    result = run("benchmarks.scale", "build_here", args, limit=2 << 30)

The function prints one JSON object as its last line; `run` returns it, with the peak of the memory cgroup where there is one.
Needs root and a version-1 memory controller for limits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["interpreter_bytes", "reset_peak", "run", "status"]

CGROUPS = Path("/sys/fs/cgroup/memory")


def run(
    module: str, function: str, args: tuple[object, ...], *, limit: int | None = None, threads: int = 1
) -> dict[str, Any]:
    """Call a function of ours in a fresh interpreter, inside a cgroup of `limit` bytes where one is given.

    Raises:
        click.ClickException: it failed; with the end of what it wrote.
    """
    code = f"from {module} import {function}; {function}{args!r}"
    group = CGROUPS / f"colindex-benchmark-{os.getpid()}"
    if limit is not None:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(limit))

    def enter() -> None:
        if limit is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False, preexec_fn=enter, env=environment
    )
    try:
        if done.returncode:
            raise click.ClickException(f"{function} ended with {done.returncode}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if limit is not None:
            result["group_peak_mib"] = int((group / "memory.max_usage_in_bytes").read_text()) / 2**20
            result["group_failures"] = int((group / "memory.failcnt").read_text())
        return result
    finally:
        if limit is not None:
            group.rmdir()


def interpreter_bytes() -> int:
    """Resident bytes of a process that has imported everything but opened nothing."""
    code = "import colindex.index; from benchmarks.processes import status; print(status('VmRSS'))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def reset_peak() -> None:
    """Forget the process's peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def status(name: str) -> int:
    """A field of the process's status in bytes, such as VmRSS or VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
