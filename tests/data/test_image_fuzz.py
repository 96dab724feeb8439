"""More than 5,000 damaged images: each decodes or is an ImageError, quickly and in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import image_mutations
import pytest
from image_mutations import KINDS, PER_KIND, files, mutant

from fewclip.data import load_image
from fewclip.errors import ImageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="counts memory as POSIX does")
PROGRAM = Path(image_mutations.__file__)
# Of 100 mutants, how many decode: all, none, or in between, with room for other releases of Pillow.
DECODED = {
    "cut": (4, 25),  # what only lost metadata or later frames
    "stub": (0, 0),
    "one bit": (55, 90),
    "many bits": (5, 40),
    "head bits": (15, 55),
    "zeros": (45, 85),
    "ones": (30, 70),
    "noise": (40, 80),
    "bytes lost": (8, 40),
    "bytes twice": (35, 75),
    "bytes exchanged": (25, 65),
    "tail": (100, 100),
    "foreign head": (0, 0),
    "two halves": (8, 40),
    "huge": (0, 10),
    "no pixels": (0, 0),
    "other size": (20, 60),
    "narrow": (0, 0),
    "parts exchanged": (40, 80),
    "part lost": (30, 65),
    "part length": (5, 40),
    "metadata": (100, 100),
    "later frames": (100, 100),
    "palette": (100, 100),
    "depth": (4, 25),
    "deep values": (50, 90),
    "bomb": (30, 65),
}
INTACT = ("cut", "tail", "later frames")  # what decodes of these has every pixel


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    kind: str
    number: int
    source: str
    message: str  # "" if it decoded
    seconds: float
    memory: int
    digest: int


def decode_all(*arguments: str) -> list[Outcome]:
    """Every mutant in a process of its own: a crash would end it, and name the mutant."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended at {lines[-1:]}: {done.stderr[-2000:]}"
    return [
        Outcome(*asked, "" if got[0] == "decoded" else got[0], *got[1:])
        for asked, got in zip(lines[::2], lines[1::2], strict=True)
    ]


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return decode_all()


def test_every_mutant_decodes_or_is_an_image_error(outcomes):
    assert len(KINDS) >= 22
    assert len(outcomes) == len(KINDS) * PER_KIND >= 5_000
    assert all(o.message == "" or "expected" in o.message for o in outcomes)


def test_none_hangs(outcomes):
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    assert slowest.seconds < 2, slowest


def test_memory_stays_below_512_mib(outcomes):
    worst = next(o for o in outcomes if o.memory == outcomes[-1].memory)
    assert worst.memory < 512 * 2**20, worst


def test_at_least_30_per_cent_decode(outcomes):
    assert sum(o.message == "" for o in outcomes) >= 0.3 * len(outcomes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_outcome_of_every_kind(outcomes, kind):
    some = [o for o in outcomes if o.kind == kind]
    low, high = DECODED[kind]
    assert low <= 100 * sum(o.message == "" for o in some) / len(some) <= high


@pytest.mark.parametrize("kind", INTACT)
def test_what_decodes_although_bytes_are_missing_lost_no_pixel(outcomes, kind):
    intact = {name: zlib.crc32(load_image(content).tobytes()) for name, content in files().items()}
    some = [o for o in outcomes if o.kind == kind and not o.message]
    assert some
    assert [o for o in some if o.digest != intact[o.source]] == []


def test_claims_are_refused_with_the_reason(outcomes):
    reasons = defaultdict(Counter)
    for o in outcomes:
        reasons[o.kind]["pixels, got" in o.message or "bytes for" in o.message] += 1
        reasons[o.kind, "narrow"]["one side at most" in o.message] += 1
    assert reasons["huge"][True] > PER_KIND / 3  # the others have no data for it, or are no such image
    assert reasons["narrow", "narrow"][True] > PER_KIND / 3


def test_truncated_files_are_taken_when_allowed(outcomes):
    allowed = decode_all("--allow-truncated", "cut")
    strictly = [o for o in outcomes if o.kind == "cut"]
    assert all(o.digest == s.digest for o, s in zip(allowed, strictly, strict=True) if not s.message)
    by_format = defaultdict(Counter)
    for o in allowed:
        by_format[o.source.split("-")[0]][o.message == ""] += 1
    for name in ("png", "bmp", "ppm", "gif", "mpo"):
        assert by_format[name][True] > by_format[name][False], name
    assert by_format["jpeg"][True] > 0
    assert not by_format["webp"][True]


def test_the_recipe_gives_the_same_bytes_again():
    assert mutant("noise", 7) == mutant("noise", 7)
    assert mutant("noise", 7) != mutant("noise", 8)


def test_a_small_file_that_claims_to_be_huge_is_refused_before_decoding(tmp_path):
    content = files()["jpeg"]
    big = bytearray(content)
    at = content.index(b"\xff\xc0") + 5
    big[at : at + 4] = (13_000).to_bytes(2, "big") * 2
    with pytest.raises(ImageError, match=r"at least 169,000 bytes for 13000×13000 pixels, got \d"):
        load_image(bytes(big))
    with pytest.raises(ImageError, match="at least 169,000 bytes"):
        load_image(bytes(big), allow_truncated=True)
