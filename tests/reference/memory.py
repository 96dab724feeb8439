"""Peak memory of a piece of code, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PEAK = """
def peak():
    # Not ru_maxrss: a child inherits it from the process that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
"""


def peak_growth(setup: str, code: str) -> float:
    """By how many MiB ``code`` raises the peak of the resident memory after ``setup``."""
    if not sys.platform.startswith("linux"):
        pytest.skip("peak memory is read from /proc")
    script = f"{_PEAK}\n{setup}\nbefore = peak()\n{code}\nprint(peak() - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)
