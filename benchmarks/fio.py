"""What the disk can do by itself: random direct reads by fio, many in flight, over the files that colindex reads.

The reads are as many blocks long as the documents were, in the same proportions, at random places. fio counts whole
milliseconds, so it reads `reads` times `REPEAT` blocks in one go, and what comes back is the time for `reads`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["fio_seconds", "has_fio"]

BLOCK = 4096
REPEAT = 16


def has_fio() -> bool:
    """Whether fio is installed."""
    return shutil.which("fio") is not None


def fio_seconds(paths: Sequence[Path], blocks: npt.NDArray[np.int64], depth: int) -> float:
    """Seconds for one random read of each of these lengths, in blocks, with `depth` in flight."""
    lengths, counts = np.unique(blocks, return_counts=True)
    shares = np.floor(counts * 100 / counts.sum()).astype(int)
    shares[shares.argmax()] += 100 - shares.sum()
    split = ":".join(f"{length * 4}k/{share}" for length, share in zip(lengths, shares, strict=True) if share)
    command = ["fio", "--name=reads", "--rw=randread", "--direct=1", "--ioengine=io_uring", "--norandommap"]
    command += [
        "--randrepeat=0",
        "--output-format=json",
        "--filename=" + ":".join(map(str, paths)),
        "--file_service_type=random",
    ]
    command += [
        f"--iodepth={depth}",
        f"--bssplit={split}",
        f"--blockalign={BLOCK}",
        f"--number_ios={len(blocks) * REPEAT}",
    ]
    command += [f"--size={sum(path.stat().st_size // BLOCK * BLOCK for path in paths)}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    job = json.loads(done.stdout)["jobs"][0]["read"]
    return float(job["runtime"]) / 1e3 * len(blocks) / float(job["total_ios"])
