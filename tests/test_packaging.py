"""The package is whole: in the checkout through its links, in a wheel without them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import colindex
from tests.test_architecture import IMPORTERS

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ("colindex/kernels/native", "storage/native")
TEMPLATES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "colindex" / "views" / "templates").iterdir()}
STATIC = {path.relative_to(ROOT).as_posix() for path in (ROOT / "colindex" / "serve" / "static").iterdir()}
DATA = {"colindex/py.typed", *TEMPLATES, *STATIC}
LINKS = {"storage": "../storage", "cli": "../cli"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


COMPILER = shutil.which(os.environ.get("CXX", "g++"))
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler here")


def _copied(source: Path) -> Path:
    """What a build needs: pip builds in place, and the checkout stays clean."""
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("colindex", "storage", "cli"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return source


def _wheel(folder: Path, **environment: str) -> Path:
    """A wheel, built without a network."""
    source, out = _copied(folder / "source"), folder / "wheel"
    options = ["-qq", "--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(out), str(source)]
    environment = {**os.environ, **environment}
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=170, env=environment)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wheel(tmp_path_factory.mktemp("wheel"), CFLAGS="-O0")  # compiles in a third of the time


@pytest.fixture(scope="module")
def plain_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it is built where there is no compiler."""
    return _wheel(tmp_path_factory.mktemp("plain-wheel"), CC="/bin/false", CXX="/bin/false")


@pytest.fixture
def plain_site(plain_wheel: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(plain_wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


def _run(code: str, site: Path, cwd: Path) -> str:
    """What Python code prints, run with a package that is not the checkout's."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def _modules() -> set[str]:
    """Every Python file of ours as a wheel names it, and the stubs of what is compiled."""
    places = {folder: _package(folder).replace(".", "/") for folder in _folders()}
    return {f"{place}/{file.name}" for folder, place in places.items() for file in folder.glob("*.py*")}


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_one_package_with_every_module(wheel: Path) -> None:
    names = _names(wheel)
    info = f"colindex-{colindex.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"colindex", info}
    ours = {name for name in names if name.startswith("colindex/") and not name.endswith(".so")}
    assert ours == {*_modules(), *DATA}
    assert f"{info}/licenses/LICENSE" in names


@needs_compiler
def test_wheel_holds_the_native_code(wheel: Path) -> None:
    """Where there is a compiler it has to understand us, though an install goes on without."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = {name for name in _names(wheel) if name.endswith(".so")}
    assert built == {f"colindex/{name}{suffix}" for name in ("kernels/native/_native", "storage/_reads")}


def test_wheel_runs_far_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    unpacked, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    code = "import colindex, colindex.cli, colindex.storage as s; print(colindex.__file__, s.__file__, colindex.cli.__file__)"
    assert all(Path(file).is_relative_to(unpacked) for file in _run(code, unpacked, elsewhere).split())


def test_without_a_compiler_the_wheel_holds_all_but_the_native_code(plain_wheel: Path) -> None:
    assert {name for name in _names(plain_wheel) if name.startswith("colindex/")} == {*_modules(), *DATA}


SEARCH = """
import sys
import numpy as np
from colindex import BuildParams, Index, SearchParams, TokenBatch
vectors = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
batch = TokenBatch(ids=tuple("abcdefghij"), vectors=vectors, offsets=np.arange(0, 301, 30))
Index.build_from_vectors("v", [batch], BuildParams(threads=1))
with Index.open("v") as index:
    for exact in (True, False):
        print(index.search_vectors(vectors[60:63], k=1, params=SearchParams(exact=exact))[0].id)
"""


def test_without_a_compiler_an_index_is_built_and_searched(plain_site: Path, tmp_path: Path) -> None:
    assert _run(SEARCH, plain_site, tmp_path).split() == ["c", "c"]


def test_without_a_compiler_the_system_page_says_what_is_missing(plain_site: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from colindex.cli import main; sys.argv = 'colindex info --system --format json'.split(); main()"
    )
    facts = json.loads(_run(code, plain_site, tmp_path))
    assert facts["kernels"].startswith("reference")
    assert facts["reads"] == "python"
    assert "_native" in facts["missing"]
    assert "compiler" in facts["missing"]


def test_source_distribution_holds_what_is_compiled(tmp_path: Path) -> None:
    source = _copied(tmp_path / "source")
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True, timeout=60)
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    native = {
        f"{place}/{path.name}" for place in NATIVE for path in (ROOT / place).glob("*") if path.suffix in (".cpp", ".h")
    }
    assert native
    assert native <= names
    assert {"setup.py", "pyproject.toml", "storage/__init__.py", "cli/__init__.py", *DATA} <= names


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
    wanted += pyproject["build-system"]["requires"]
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
    rows = [*project["dependencies"], *extras["minilm"], *extras["parquet"], *extras["notebooks"], *extras["serve"]]
    declared = {Requirement(row).name for row in rows}
    declared |= {"huggingface-hub", "transformers"}  # by way of sentence-transformers, which decides their versions
    declared |= {"pydantic", "starlette"}  # by way of fastapi
    for package in IMPORTERS:
        assert other_names.get(package, package.replace("_", "-")) in declared
