"""The command as a process of its own: quick help, nothing heavy, plain exit codes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import draw_folder, run_fewclip

pytestmark = pytest.mark.usefixtures("own_cache")
HEAVY = ("torch", "numpy", "sklearn", "PIL", "scipy", "pandas", "onnxruntime", "matplotlib", "safetensors")
WATCHED = """
import sys
from fewclip.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",), ("fit", "--help"), ("demo", "--help"), ("prompts", "check", "--help"),
        ("bench", "run", "--help"), ("--version",),
    ],
)  # fmt: skip
def test_help_loads_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert loaded & set(HEAVY) == set()
    assert "fewclip" in done.stdout


def test_import_fewclip_loads_nothing_heavy():
    script = "import sys, fewclip; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {*HEAVY, "typer", "rich"} == set()


def test_help_answers_within_four_times_the_import_of_its_libraries():
    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True, timeout=60)
        return time.perf_counter() - start

    # Interleaved, so that a busy machine slows both sides down.
    pairs = [
        (
            seconds("-c", "import typer, rich"),
            seconds("-c", "from fewclip.cli import main; main()", "--help"),
        )
        for _ in range(5)
    ]
    libraries, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    assert ours < 4 * libraries


def test_the_installed_program_answers():
    program = Path(sys.executable).with_name("fewclip.exe" if sys.platform == "win32" else "fewclip")
    if not program.is_file():
        pytest.skip("the program fewclip is not installed beside this Python")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("fewclip ")


def test_no_command_is_the_help():
    ran = run_fewclip()
    assert "Commands" in ran.out + ran.err
    assert ran.code in (0, 2)  # click 8.2 counts it as usage


def test_the_main_job_in_processes_of_their_own(tmp_path):
    """fit, predict with a broken image, evaluate, wrong usage: exit codes 0, 3, 0, 2; stdout clean."""
    draw_folder(tmp_path / "photos", ["red", "blue"], n=2)
    draw_folder(tmp_path / "new", ["red", "blue"], n=1, first=50)
    (tmp_path / "new" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    quick = {"OMP_NUM_THREADS": "1"}
    fit = run_fewclip("fit", "photos", "-o", "two.adapter", cwd=tmp_path, **quick)
    assert (fit.code, fit.out) == (0, "")
    assert "saved     two.adapter" in fit.err
    predict = run_fewclip("predict", "two.adapter", "new", "--json", "-q", cwd=tmp_path, **quick)
    assert (predict.code, predict.err) == (3, "")
    rows = [json.loads(line) for line in predict.out.splitlines()]
    assert [row["path"] for row in rows] == ["new/blue/50.png", "new/red/50.png", "new/red/broken.jpg"]
    assert [row["error"] is None for row in rows] == [True, True, False]
    missing = run_fewclip("predict", "no.adapter", "new", cwd=tmp_path)
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.startswith("error: no.adapter")
    assert "Traceback" not in missing.err
    assert run_fewclip("predict", "two.adapter", cwd=tmp_path).code == 2


def test_a_reader_that_leaves_is_no_traceback():
    """``fewclip list | head -0``: nothing left to say."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from fewclip.cli import main; main()", "list", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) != 0
    assert "Traceback" not in errors
