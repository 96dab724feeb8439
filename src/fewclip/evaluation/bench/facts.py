"""What a run was made with: versions, and the memory it took."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Self

from fewclip.versions import installed_versions

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@cache
def versions() -> dict[str, str]:
    """Of Python, the machine and the packages that figures may depend on."""
    return installed_versions() | {"platform": platform.platform()}


class PeakMemory:
    """The largest memory of the process while its ``with`` blocks ran.

    Where the kernel does not let the peak be reset (other systems than Linux) it is that of the whole process
    so far.

    Attributes:
        megabytes: The peak, 10⁶ bytes; None where the system does not tell.
    """

    megabytes: float | None = None

    def __enter__(self) -> Self:
        with suppress(OSError):
            _RESET.write_text("5")  # proc(5): resets the peak resident set
        return self

    def __exit__(self, *_: object) -> None:
        found = _peak()
        if found is not None:
            self.megabytes = round(max(found, self.megabytes or 0.0), 1)


def _peak() -> float | None:
    with suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
