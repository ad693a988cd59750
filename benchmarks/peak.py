"""What can one core multiply at the very most?

A loop of the multiply-add that the kernels use, on registers alone: no kernel, whatever it reads, is faster. It is compiled when
it is asked for; without a C compiler nobody knows.

AVX-512 multiplies 8 bits twice as fast as 16. AVX2 has no product of 8 bits that is exact: values of 8 bits are widened to 16.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["multiply_adds_a_second"]

_ROUNDS = 20_000_000
_SUMS = 12  # independent ones: more than an instruction takes cycles
_FLAGS = {"avx512": ["-mavx512f", "-mavx512vnni"], "avx2": ["-mavx2"]}
_VECTORS = {"avx512": ("__m512i", "_mm512_setzero_si512()"), "avx2": ("__m256i", "_mm256_setzero_si256()")}
_WORDS = "sums[s] = _mm256_add_epi32(sums[s], _mm256_madd_epi16(value, sums[s]))"
_STEPS = {  # by instruction set and bits: a multiply-add, and how many it is
    ("avx512", 8): ("sums[s] = _mm512_dpbusd_epi32(sums[s], value, value)", 64),
    ("avx512", 16): ("sums[s] = _mm512_dpwssd_epi32(sums[s], value, value)", 32),
    ("avx2", 8): (_WORDS, 16),
    ("avx2", 16): (_WORDS, 16),
}
_SOURCE = """
#include <immintrin.h>
int run(long rounds) {
    %(vector)s sums[%(sums)d], value = %(zero)s;
    for (int s = 0; s < %(sums)d; ++s) sums[s] = value;
    __asm__ volatile("" : "+x"(value));
    for (long r = 0; r < rounds; ++r) {
        _Pragma("GCC unroll %(sums)d") for (int s = 0; s < %(sums)d; ++s) %(step)s;
    }
    for (int s = 1; s < %(sums)d; ++s) sums[0] = sums[0] ^ sums[s];
    return *(int*)sums;
}
"""


def multiply_adds_a_second(instruction_set: str, bits: int) -> float | None:
    """Multiply-adds of 8 or 16 bits that one core does in a second, the best of five runs; None where it cannot be known."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or instruction_set not in _VECTORS:
        return None
    (vector, zero), (step, width) = _VECTORS[instruction_set], _STEPS[instruction_set, bits]
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "peak.c"), Path(folder, "peak.so")
        source.write_text(_SOURCE % {"vector": vector, "zero": zero, "step": step, "sums": _SUMS})
        command = [compiler, "-O2", "-shared", "-fPIC", *_FLAGS[instruction_set], str(source), "-o", str(library)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            return None
        run = ctypes.CDLL(str(library)).run
        run.argtypes = [ctypes.c_long]
        seconds = min(_timed(run) for _ in range(5))
    return _ROUNDS * _SUMS * width / seconds


def _timed(run: ctypes._FuncPointer) -> float:
    start = time.thread_time()
    run(_ROUNDS)
    return time.thread_time() - start
