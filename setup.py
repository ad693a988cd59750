"""The native kernels, an optional extension: without a compiler the install succeeds, and the reference kernels run.

Everything else about the package is in pyproject.toml.

One module holds the bodies for every instruction set, and picks one when it is imported. A source file named for an
instruction set is compiled for it, the others for any machine of the architecture. What CFLAGS asks for has the last word:
`make sanitize` and the tests of this file ask for other code.
"""

from __future__ import annotations

import os
import platform
import shlex
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra"]
FLAGS += [
    "-ffp-contract=off"
]  # a product and a sum are rounded one after the other, on machines that can do both at once too
FLAGS += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]  # GCC 12's own AVX-512 headers set them off
FLAGS += shlex.split(os.environ.get("CFLAGS", ""))
AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi2"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mavx512vbmi"]
INSTRUCTION_SETS = {"_avx2.cpp": AVX2, "_avx512.cpp": [*AVX2, *AVX512, "-mprefer-vector-width=512"]}
HEADERS = sorted(
    str(path) for folder in ("colindex/kernels/native", "storage/native") for path in Path(folder).glob("*.h")
)
X86 = platform.machine().lower() in ("x86_64", "amd64")


class build_ext_by_instruction_set(build_ext):
    """Compile each file for the instruction set that its name ends in, several files at a time."""

    def build_extension(self, ext: Extension) -> None:
        """Put another function in the place of the compiler's one-file call; setuptools knows flags by extension only."""
        compile_one, compile_all = self.compiler._compile, self.compiler.compile
        started: list[Future[None]] = []

        def start(obj: str, src: str, ext_: str, cc_args: list[str], extra: list[str], pp_opts: list[str]) -> None:
            of_set = [flags for ending, flags in INSTRUCTION_SETS.items() if X86 and src.endswith(ending)]
            started.append(pool.submit(compile_one, obj, src, ext_, cc_args, sum(of_set, extra), pp_opts))

        def compile_and_wait(*arguments: Any, **options: Any) -> list[str]:
            objects: list[str] = compile_all(*arguments, **options)
            for compiled in started:
                compiled.result()
            return objects

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self.compiler._compile, self.compiler.compile = start, compile_and_wait
            try:
                super().build_extension(ext)
            finally:
                self.compiler._compile, self.compiler.compile = compile_one, compile_all


def extension(name: str, folder: Path, **settings: Any) -> Extension:
    """All C++ files of a folder as one module."""
    return Extension(
        name,
        sources=sorted(str(path) for path in folder.glob("*.cpp")),
        depends=HEADERS,
        include_dirs=[pybind11.get_include()],
        language="c++",
        extra_compile_args=FLAGS,
        optional=True,
        **settings,
    )


setup(
    ext_modules=[
        extension("colindex.kernels.native._native", Path("colindex/kernels/native")),
        extension("colindex.storage._reads", Path("storage/native"), extra_link_args=["-pthread"]),
    ],
    cmdclass={"build_ext": build_ext_by_instruction_set},
)
