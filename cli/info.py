"""`colindex info`: an index in figures, or the system that colindex runs on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import colindex
from colindex.cli.options import format_option, memory_option
from colindex.cli.output import write_facts, write_json

__all__ = ["command"]

_PACKAGES = (
    "click",
    "faiss-cpu",
    "ir-measures",
    "lmdb",
    "numpy",
    "pyarrow",
    "rich",
    "scipy",
    "sentence-transformers",
    "torch",
    "transformers",
    "xxhash",
    "zarr",
    "zstandard",
)
# What the fast kernels choose by.
_CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "asimd", "asimddp")
_WAY_OUT = "install a C++17 compiler, then colindex anew: the native code is built when it is installed"
_CPUINFO = Path("/proc/cpuinfo")


@click.command("info")
@click.argument("index", required=False, type=click.Path(path_type=Path))
@click.option("--system", is_flag=True, help="Show versions, kernels and CPU instead of an index.")
@memory_option("512MiB", "Bound on what the index keeps in memory.")
@format_option("table", "json")
def command(index: Path | None, system: bool, memory: str, format_: str) -> None:
    """Show what an index holds, where its bytes are and what stays in memory.

    `columns` are the names that a condition of `search --where` may mention. `drift`, once something was added, is the
    residual energy of what was added over the build's: far above 1, the codebook fits it badly. Its `growth` is the vectors
    of the index over those that the codebook was trained for.

    \b
    Example:
      colindex info wiki.colindex
      colindex info wiki.colindex --format json
      colindex info --system
    """
    if (index is None) != system:
        raise click.UsageError("expected either INDEX or --system.")
    facts = _system_facts() if index is None else _index_facts(index, memory)
    (write_json if format_ == "json" else write_facts)(facts)


def _index_facts(path: Path, memory: str) -> dict[str, object]:
    from colindex.filters import columns
    from colindex.index import Index
    from colindex.storage.segments import metadata_table

    with Index.open(path, memory=memory) as index:
        manifest, stats = index.manifest, index.stats().as_dict()
        del stats["cache"]  # counters since open, and nothing was searched
        return {
            "path": str(path),
            **stats,
            "encoder": None if manifest.encoder is None else dict(manifest.encoder),
            "drift": None if manifest.drift is None else _drift_facts(manifest.drift, manifest.tokens),
            "columns": columns(metadata_table(path, info) for info in manifest.segments),
        }


def _drift_facts(stored: Mapping[str, Any], tokens: int) -> dict[str, object]:
    """How far what was added lies from what the codebook was learned from."""
    from colindex.drift import Drift

    drift = Drift.from_json(stored)
    return {
        "tokens": drift.tokens,
        "unknown": drift.unknown,
        "energy": drift.energy,
        "built_energy": drift.built_energy,
        "ratio": drift.ratio,
        "growth": drift.growth(tokens),
        "advice": drift.advice(tokens),
    }


def _system_facts() -> dict[str, object]:
    return {
        "colindex": colindex.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": {
            "model": _cpu_field("model name") or platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "features": [feature for feature in _CPU_FEATURES if feature in _cpu_flags()],
        },
        **_bodies(),
        "packages": {name: _installed(name) for name in _PACKAGES},
    }


def _bodies() -> dict[str, str]:
    """What computes and what reads here: the native code or the Python that does the same, and why it is not the native."""
    kernels = import_module("colindex.kernels.chosen")
    facts = {"kernels": str(kernels.BODY), "reads": import_module("colindex.storage.blocks").engines()[0]}
    if kernels.MISSING or facts["reads"] == "python":
        facts["missing"] = f"{kernels.MISSING or 'colindex.storage._reads is not built'}; {_WAY_OUT}"
    return facts


def _cpu_flags() -> set[str]:
    return set((_cpu_field("flags") or _cpu_field("Features")).split())


def _cpu_field(name: str) -> str:
    """The first value of a field of /proc/cpuinfo; empty where there is no such file or field."""
    if not _CPUINFO.exists():
        return ""
    for line in _CPUINFO.read_text(errors="replace").splitlines():
        field, _, value = line.partition(":")
        if field.strip() == name:
            return value.strip()
    return ""


def _installed(name: str) -> str | None:
    from importlib import metadata  # it brings zipfile and email

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
