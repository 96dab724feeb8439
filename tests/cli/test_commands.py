"""The commands by their entry point: exit codes, clean stdout, and what stderr tells."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import version

import pytest
from helpers import FakeEncoder, Ran, draw_folder, drawing, fewclip
from typer.testing import CliRunner

from fewclip import FewShotClassifier
from fewclip.cli.app import app
from fewclip.methods import METHODS

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread", "fake_encoder")
COMMANDS = ("fit", "predict", "evaluate", "explain", "demo", "list", "info", "doctor", "cache", "prompts")


@pytest.fixture
def new(tmp_path):
    return draw_folder(tmp_path / "new", n=2, first=50)


@pytest.fixture
def adapter(tmp_path, photos):
    folder = tmp_path / "colours.adapter"
    FewShotClassifier(FakeEncoder(), "ape", progress=False).fit(photos).save_pretrained(folder)
    return folder


def assert_is_one_error(ran: Ran, *parts: str) -> None:
    """Exit code 1, one line on stderr, nothing on stdout, no traceback."""
    assert ran.code == 1, ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for part in parts:
        assert part in errors[0]


# ---- help and usage ----


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_help(command, flag):
    done = CliRunner().invoke(app, [command, flag] if command else [flag], env={"COLUMNS": "100"})
    assert done.exit_code == 0
    assert "Usage" in done.output
    assert (command or "predict") in done.output


def test_help_names_every_command():
    text = CliRunner().invoke(app, ["--help"]).output
    assert [command for command in COMMANDS if command not in text] == []


@pytest.mark.parametrize(
    "flags",
    [
        ("fit", "--encoder", "--method", "--shots", "--seed", "--output", "-o", "--device", "--batch-size"),
        ("fit", "--json", "--quiet", "--overwrite", "--report"),
        ("predict", "--output", "-o", "--device", "--batch-size", "--json", "--quiet"),
        ("evaluate", "--device", "--batch-size", "--json", "--quiet", "--report"),
        ("explain", "--device", "--json"),
        ("demo", "--encoder", "--methods", "--shots", "--seed", "--output", "--batch-size", "--quiet"),
    ],
)
def test_flags_are_spelled_as_the_field_spells_them(flags):
    text = CliRunner().invoke(app, [flags[0], "--help"], env={"COLUMNS": "160", "TERM": "dumb"}).output
    assert [flag for flag in flags[1:] if flag not in text] == []


def test_version():
    assert fewclip("--version") == Ran(0, f"fewclip {version('fewclip')}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("banana",),
        ("fit",),
        ("fit", "photos"),
        ("fit", "photos", "-o", "a", "--banana"),
        ("fit", "photos", "-o", "a", "--shots", "0"),
        ("fit", "photos", "-o", "a", "--shots", "many"),
        ("fit", "photos", "-o", "a", "--views", "0"),
        ("fit", "photos", "-o", "a", "--batch-size", "0"),
        ("predict", "a"),
        ("predict", "a", "b", "--top", "0"),
        ("evaluate", "a"),
        ("explain", "a", "b", "c"),
        ("info",),
        ("demo", "--shots", "1,x"),
        ("demo", "--shots", "0"),
        ("demo", "--shots", ","),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    ran = fewclip(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage" in ran.err
    assert "Traceback" not in ran.err


# ---- fit ----


def test_fit_saves_and_says_what_next(photos, tmp_path, new):
    target = tmp_path / "my best.adapter"
    ran = fewclip("fit", photos, "-o", target, "--encoder", "fake")
    assert (ran.code, ran.out) == (0, "")
    for part in ("auto on fake features", "12 of 3 classes", "zero-shot", f"saved     {target}"):
        assert part in ran.err
    _, command, adapter, _, *rest = shlex.split(ran.err.split("next")[-1])
    assert (command, adapter) == ("predict", str(target))
    assert fewclip(command, adapter, new, rest[0], tmp_path / rest[1]).code == 0


def test_fit_quiet_is_silent(photos, tmp_path):
    assert fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "--quiet") == Ran(0, "", "")


def test_fit_json(photos, tmp_path):
    ran = fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "--json", "--shots", "2", "-q")
    data = json.loads(ran.out)
    assert data["adapter"] == str(tmp_path / "a")
    assert data["shots"] == {"blue": 2, "green": 2, "red": 2}
    assert ran.err == ""


@pytest.mark.parametrize("method", METHODS)
def test_fit_every_method(photos, tmp_path, new, method):
    assert fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "--method", method).code == 0
    assert json.loads(fewclip("info", tmp_path / "a", "--json").out)["method"]["name"] == method
    assert fewclip("predict", tmp_path / "a", new, "-q").code == 0


def test_fit_refuses_an_existing_target_before_any_work(photos, adapter):
    before = (adapter / "config.json").read_bytes()
    ran = fewclip("fit", photos.parent / "nowhere", "-o", adapter, "--encoder", "fake")
    assert_is_one_error(ran, "colours.adapter", "--overwrite")
    assert (adapter / "config.json").read_bytes() == before
    assert fewclip("fit", photos, "-o", adapter, "--encoder", "fake", "--overwrite").code == 0
    assert_is_one_error(fewclip("fit", photos, "-o", photos, "--overwrite"), "something else")


def test_fit_takes_prompts_templates_and_validation(photos, tmp_path, new):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"red": ["a red thing", "something red"]}))
    ran = fewclip(
        *("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "--prompts", prompts, "--val", new),
        *("--template", "one {}", "--template", "two {}", "--views", "2"),
    )
    assert ran.code == 0, ran.err
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["prompts"] == [
        ["one blue", "two blue"],
        ["one green", "two green"],
        ["a red thing", "something red"],
    ]
    assert config["method"]["selection"]["protocol"] == "full"


def test_fit_skips_unreadable_images_when_told(photos, tmp_path):
    (photos / "red" / "zz.jpg").touch()
    assert_is_one_error(fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake"), "zz.jpg", "empty")
    assert not (tmp_path / "a").exists()
    ran = fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "--skip-unreadable")
    assert ran.code == 0
    assert "zz.jpg" in ran.err


def test_fit_warns_of_an_empty_class_folder(photos, tmp_path):
    (photos / "yellow").mkdir()
    ran = fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake")
    assert ran.code == 0
    assert re.search(r"^warning: .*yellow", ran.err, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--method", "banana"), ("banana", "zero-shot")),
        (("--encoder", "banana"), ("banana", "pocket")),
        (("--encoder", "hf:openai/clip-vit-base-patch32"), ("hf:",)),
        (("--selection", "banana"), ("banana", "loo")),
        (("--selection", "full"), ("X_val",)),
        (("--template", "no braces"), ("no braces",)),
        (("--prompts", "nowhere.json"), ("nowhere.json",)),
        (("--val", "nowhere"), ("nowhere",)),
    ],
)
def test_fit_with_a_wrong_option(photos, tmp_path, arguments, parts):
    ran = fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", *arguments)
    assert_is_one_error(ran, *parts)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there(photos, adapter, new, tmp_path, device):
    ran = fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "--device", device)
    assert_is_one_error(ran, "device", device)
    assert_is_one_error(fewclip("predict", adapter, new, "--device", device), "device", device)


@pytest.mark.parametrize("classes", [(), ("red",)])
def test_fit_on_too_little(tmp_path, classes):
    (tmp_path / "p").mkdir()
    draw_folder(tmp_path / "p", classes)
    assert_is_one_error(fewclip("fit", tmp_path / "p", "-o", tmp_path / "a", "--encoder", "fake"))


# ---- predict ----


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_predict_to_stdout_is_csv_alone(adapter, new):
    ran = fewclip("predict", adapter, new)
    assert ran.code == 0
    rows = rows_of(ran.out)
    assert list(rows[0]) == [
        "path", "label", "score", "top2_label", "top2_score", "top3_label", "top3_score", "error"
    ]  # fmt: skip
    assert [row["path"] for row in rows] == [f"{new}/{p.relative_to(new)}" for p in sorted(new.glob("*/*"))]
    assert [row["label"] for row in rows] == ["blue"] * 2 + ["green"] * 2 + ["red"] * 2
    assert all(0 <= float(row["score"]) <= 1 and row["error"] == "" for row in rows)
    assert "6 of 6 images classified, 0 unreadable" in ran.err
    assert "next" in ran.err


def test_predict_agrees_with_python(adapter, new):
    loaded = FewShotClassifier.from_pretrained(adapter, encoder=FakeEncoder(), progress=False)
    expected = loaded.predict_proba(new)
    rows = rows_of(fewclip("predict", adapter, new).out)
    for row, probabilities in zip(rows, expected, strict=True):
        assert float(row["score"]) == pytest.approx(probabilities.max(), abs=1e-6)


def test_predict_quiet_and_json(adapter, new):
    ran = fewclip("predict", adapter, new, "--json", "--quiet", "--top", "1")
    assert (ran.code, ran.err) == (0, "")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [list(row) for row in rows] == [["path", "label", "score", "error"]] * 6
    assert fewclip("predict", adapter, new, "--quiet").err == ""


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_predict_writes_the_format_of_the_suffix(adapter, new, tmp_path, suffix):
    target = tmp_path / f"p.{suffix}"
    ran = fewclip("predict", adapter, new, "-o", target)
    assert (ran.code, ran.out) == (0, "")
    assert str(target) in ran.err
    assert target.stat().st_size > 100


def test_predict_takes_files_folders_and_globs_in_order(adapter, new, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = fewclip("predict", adapter, "new/red/50.png", "new/blue", "new/*/51.png", "./new/red/50.png")
    assert [row["path"] for row in rows_of(ran.out)] == [
        "new/red/50.png",
        "new/blue/50.png",
        "new/blue/51.png",
        "new/blue/51.png",
        "new/green/51.png",
        "new/red/51.png",
        "./new/red/50.png",
    ]


def test_predict_tells_an_unreadable_image_in_its_row_and_by_code_3(adapter, new, tmp_path):
    (new / "green" / "00.jpg").write_text("no image")
    target = tmp_path / "p.csv"
    ran = fewclip("predict", adapter, new, "gone.png", "-o", target)
    assert ran.code == 3
    assert "6 of 8 images classified, 2 unreadable" in ran.err
    rows = rows_of(target.read_text())
    assert len(rows) == 8
    bad = [row for row in rows if row["error"]]
    assert [row["path"] for row in bad] == [f"{new}/green/00.jpg", "gone.png"]
    assert all(row["label"] == row["score"] == row["top2_label"] == "" for row in bad)
    assert "Traceback" not in ran.err


def test_predict_where_nothing_can_be_read(adapter, tmp_path):
    ran = fewclip("predict", adapter, tmp_path / "gone.png", tmp_path / "gone too.png")
    assert ran.code == 3
    assert [bool(row["error"]) for row in rows_of(ran.out)] == [True, True]


def test_predict_more_classes_than_there_are(adapter, new):
    header = fewclip("predict", adapter, new, "--top", "9").out.splitlines()[0]
    assert header.endswith("top3_label,top3_score,error")


@pytest.mark.parametrize(
    ("output", "parts"),
    [("p.txt", (".csv, .jsonl, .parquet",)), ("p", ("no suffix",)), ("nowhere/p.csv", ("nowhere",))],
)
def test_a_wrong_output_is_found_before_any_work(new, tmp_path, monkeypatch, output, parts):
    monkeypatch.chdir(tmp_path)
    assert_is_one_error(fewclip("predict", "no.adapter", new, "-o", output), *parts)


def test_predict_without_images_or_adapter(adapter, new, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_is_one_error(fewclip("predict", adapter, tmp_path / "empty"), "empty")
    assert_is_one_error(fewclip("predict", adapter, tmp_path / "*.gif"), "*.gif")
    assert_is_one_error(fewclip("predict", tmp_path / "no.adapter", new), "no.adapter", "fewclip fit")
    assert_is_one_error(fewclip("predict", new, new), "new", "folder without one")


def test_an_interrupt_says_what_is_kept(adapter, new, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(FewShotClassifier, "classify", interrupted)
    ran = fewclip("predict", adapter, new, "-o", tmp_path / "p.csv")
    assert ran.code == 130
    assert "Traceback" not in ran.err
    assert not (tmp_path / "p.csv").exists()


# ---- evaluate and explain ----


def test_predict_counts_what_it_withholds(adapter, new, tmp_path):
    ran = fewclip("predict", adapter, new, "-o", tmp_path / "rows.csv", "--unknown", "auto", "--keep", "0.5")
    assert ran.code == 0
    rows = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    assert f"unknown   {rows.count('unknown,')} of 6" in ran.err
    assert "unsure" not in ran.err


def test_fit_reports_on_the_labelled_images(photos, tmp_path):
    ran = fewclip("fit", photos, "-o", tmp_path / "a.adapter", "--report", tmp_path / "report")
    assert ran.code == 0
    assert "scores    calibrated on 12 images that were not learnt" in ran.err
    assert f"report    {tmp_path / 'report' / 'index.html'}" in ran.err
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "What has a.adapter learnt?" in page
    assert "The labelled images" in page


def test_fit_reports_on_ready_features_without_pictures(photos, tmp_path):
    fewclip("embed", photos, "-o", tmp_path / "features.npz", "--encoder", "pocket")
    ran = fewclip(
        "fit", tmp_path / "features.npz", "-o", tmp_path / "a.adapter", "-q", "--report", tmp_path / "report"
    )
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "report" / "index.html").is_file()


def test_evaluate(adapter, new, tmp_path):
    ran = fewclip("evaluate", adapter, new, "--report", tmp_path / "report")
    assert ran.code == 0
    assert "100" in ran.out
    assert [name for name in ("blue", "green", "red") if name not in ran.out] == []
    assert f"report    {tmp_path / 'report' / 'index.html'}" in ran.err
    assert (tmp_path / "report" / "index.html").is_file()


def test_evaluate_json_quiet(adapter, new):
    ran = fewclip("evaluate", adapter, new, "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    data = json.loads(ran.out)
    assert (data["accuracy"], data["images"]) == (1.0, 6)


def test_evaluate_quiet_with_a_report_is_silent(adapter, new, tmp_path):
    assert fewclip("evaluate", adapter, new, "-q", "--report", tmp_path / "report").err == ""


def test_evaluate_warns_of_images_of_the_fit(adapter, photos, new):
    drawing("red", 0).save(new / "red" / "seen.png")
    ran = fewclip("evaluate", adapter, new)
    assert ran.code == 0
    assert "warning: 1 of 7 images were used to fit" in ran.err
    assert_is_one_error(fewclip("evaluate", adapter, photos), "fitted on")


def test_evaluate_with_an_unknown_class_or_a_broken_image(adapter, new):
    (new / "red" / "zz.jpg").touch()
    assert_is_one_error(fewclip("evaluate", adapter, new), "zz.jpg")
    assert fewclip("evaluate", adapter, new, "--skip-unreadable").code == 0
    draw_folder(new, ["purple"], n=1)
    assert_is_one_error(fewclip("evaluate", adapter, new), "purple")


def test_explain(adapter, new):
    ran = fewclip("explain", adapter, new / "red" / "50.png", "--neighbours", "2")
    assert (ran.code, ran.err) == (0, "")
    assert "50.png: red (" in ran.out
    assert ran.out.count("cosine") == 2
    data = json.loads(fewclip("explain", adapter, new / "red" / "50.png", "--json").out)
    assert data["label"] == "red"
    assert data["channels"]["winner"] == "red"
    assert data["heat_map"] is None  # an encoder without spatial tokens
    assert_is_one_error(fewclip("explain", adapter, new / "gone.png"), "gone.png")


def test_explain_writes_a_page(adapter, new, tmp_path):
    page = tmp_path / "why" / "red.html"
    ran = fewclip("explain", adapter, new / "red" / "50.png", "--html", page)
    assert (ran.code, ran.err) == (0, f"page      {page}\n")
    assert "Channels that decided" in page.read_text(encoding="utf-8")
    blocked = fewclip("explain", adapter, new / "red" / "50.png", "--html", new / "red")
    assert_is_one_error(blocked, str(new / "red"))


# ---- list, info, doctor ----


def test_list():
    ran = fewclip("list")
    assert (ran.code, ran.err) == (0, "")
    assert [name for name in (*METHODS, "pocket") if name not in ran.out] == []
    data = json.loads(fewclip("list", "--json").out)
    assert [row["name"] for row in data["methods"]] == list(METHODS)
    assert all(row["what"] for row in data["methods"])


def test_info(adapter):
    ran = fewclip("info", adapter)
    assert (ran.code, ran.err) == (0, "")
    for part in ("colours.adapter", "ape", "fake-1", "blue (4)", "zero-shot", "torch"):
        assert part in ran.out
    assert json.loads(fewclip("info", adapter, "--json").out)["format_version"] == 1


@pytest.mark.parametrize("place", ["fit", "method", "encoder", "versions"])
def test_info_of_a_damaged_adapter(adapter, place):
    config = json.loads((adapter / "config.json").read_text())
    del config[place]
    (adapter / "config.json").write_text(json.dumps(config))
    assert_is_one_error(fewclip("info", adapter), "colours.adapter")


def test_info_of_something_else(photos, tmp_path):
    assert_is_one_error(fewclip("info", photos), "photos")
    assert_is_one_error(fewclip("info", tmp_path / "nowhere"), "nowhere")


def test_doctor_is_well_here(own_cache):
    ran = fewclip("doctor")
    assert (ran.code, ran.err) == (0, "")
    for part in ("torch", "encoder pocket", "feature store", str(own_cache)):
        assert part in ran.out
    checks = json.loads(fewclip("doctor", "--json").out)
    assert {"name", "ok", "detail"} <= set(checks[0])
    assert all(check["ok"] for check in checks if not check["optional"])


class Blocker(MetaPathFinder):
    """Pretends that packages are not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def without(monkeypatch, *names: str) -> None:
    for module in list(sys.modules):
        if module.partition(".")[0] in names:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Blocker(*names), *sys.meta_path])


def test_doctor_says_what_the_pocket_encoder_lacks(monkeypatch):
    without(monkeypatch, "onnxruntime", "tokenizers")
    ran = fewclip("doctor")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if "encoder pocket" in line)
    assert line.startswith("missing")
    assert 'pip install "fewclip[pocket]"' in line


@pytest.mark.parametrize(
    ("package", "extra"), [("onnxruntime", "pocket"), ("pyarrow", "data"), ("matplotlib", "plots")]
)
def test_doctor_names_the_extra_of_a_package_that_cannot_be_imported(monkeypatch, package, extra):
    from fewclip.cli import information

    def absent(name):
        if name == package:
            raise information.PackageNotFoundError(name)
        return version(name)

    without(monkeypatch, package)
    monkeypatch.setattr(information, "version", absent)
    ran = fewclip("doctor")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if package in line)
    assert line.startswith("missing")
    assert f'pip install "fewclip[{extra}]"' in line


def test_fit_without_the_pocket_extra_names_it(monkeypatch, photos, tmp_path):
    without(monkeypatch, "onnxruntime")
    ran = fewclip("fit", photos, "-o", tmp_path / "a")
    assert_is_one_error(ran, 'pip install "fewclip[pocket]"')


def test_parquet_without_its_extra_is_found_before_any_work(monkeypatch, new, tmp_path):
    without(monkeypatch, "pyarrow")
    ran = fewclip("predict", "no.adapter", new, "-o", tmp_path / "p.parquet")
    assert_is_one_error(ran, 'pip install "fewclip[data]"')


def test_a_report_without_its_extra_names_it(monkeypatch, adapter, new, tmp_path):
    without(monkeypatch, "matplotlib")
    ran = fewclip("evaluate", adapter, new, "--report", tmp_path / "report")
    assert ran.code == 1
    assert 'pip install "fewclip[plots]"' in ran.err
