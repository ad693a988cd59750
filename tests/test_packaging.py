"""The package is whole: in the checkout through its links, in a wheel without them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import colindex
from tests.test_architecture import IMPORTERS

ROOT = Path(__file__).resolve().parents[1]
LINKS = {"storage": "../storage", "cli": "../cli"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built without a network from a copy, so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("colindex", "storage", "cli"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    options = ["-qq", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


def _package(folder: Path) -> str:
    """The import name of a folder of ours: storage/ and cli/ are sub-packages of colindex."""
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "colindex" else ("colindex", *parts))


def _folders() -> list[Path]:
    """Every package folder, each once."""
    return [
        Path(folder)
        for top in ("colindex", "storage", "cli")
        for folder, _, files in os.walk(ROOT / top)
        if any(file.endswith(".py") for file in files)
    ]


@pytest.mark.parametrize("name", LINKS)
def test_links_make_the_checkout_whole(name: str) -> None:
    link = ROOT / "colindex" / name
    assert link.is_symlink()
    assert os.readlink(link) == LINKS[name]  # relative: a clone can stand anywhere
    assert (link / "__init__.py").is_file()


def test_every_folder_is_a_listed_package(pyproject: dict[str, Any]) -> None:
    folders = _folders()
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert sorted(map(_package, folders)) == sorted(pyproject["tool"]["setuptools"]["packages"])


def test_wheel_holds_one_package_with_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"colindex-{colindex.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"colindex", info}
    places = {folder: _package(folder).replace(".", "/") for folder in _folders()}
    expected = {f"{place}/{file.name}" for folder, place in places.items() for file in folder.glob("*.py")}
    assert {name for name in names if name.startswith("colindex/")} == {*expected, "colindex/py.typed"}
    assert f"{info}/licenses/LICENSE" in names


def test_wheel_runs_far_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    unpacked, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    code = "import colindex, colindex.cli, colindex.storage as s; print(colindex.__file__, s.__file__, colindex.cli.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert all(Path(file).is_relative_to(unpacked) for file in done.stdout.split())


def test_wheel_installs_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"colindex-{colindex.__version__}.dist-info/entry_points.txt").decode()
    assert "colindex = colindex.cli:main" in entry_points


def test_module_runs_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "colindex", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert colindex.__version__ in done.stdout


def test_every_dependency_has_a_lower_bound_and_a_pin_that_meets_it(pyproject: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = pyproject["project"]
    wanted = [*project["dependencies"], *(row for extra in project["optional-dependencies"].values() for row in extra)]
    for requirement in map(Requirement, wanted):
        assert str(requirement.specifier).startswith(">="), f"{requirement}: no lower bound"
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins[name]), f"constraints.txt: {name}=={pins[name]} is not {requirement}"


def test_pins_bring_no_accelerator_packages() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"^(nvidia|cuda|triton)", pins, re.MULTILINE)


def test_every_third_party_import_is_declared(pyproject: dict[str, Any]) -> None:
    other_names = {"faiss": "faiss-cpu"}
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    rows = [*project["dependencies"], *extras["minilm"], *extras["parquet"]]
    declared = {Requirement(row).name for row in rows}
    declared |= {"huggingface-hub", "transformers"}  # by way of sentence-transformers, which decides their versions
    for package in IMPORTERS:
        assert other_names.get(package, package.replace("_", "-")) in declared
