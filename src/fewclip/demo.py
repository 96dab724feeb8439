"""The demo: the whole job on real images, from a folder to a report and an adapter."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from fewclip.classifier import FewShotClassifier
from fewclip.data import (
    FeatureStore,
    LabelledSources,
    build_prompts,
    draw_shots,
    find_splits,
    holdout_split,
    labelled_sources,
)
from fewclip.encoders import load_encoder
from fewclip.encoders.base import Encoder
from fewclip.encoders.features import encode_sources, readable
from fewclip.encoders.text_features import encode_prompts
from fewclip.errors import DataError, MissingExtraError
from fewclip.evaluation import Comparison, Data, check_methods, compare
from fewclip.intake import with_tokens
from fewclip.methods import METHODS
from fewclip.reports import write_classifier_report

Draw = Callable[..., np.ndarray]
N_DRAWS = 3
DEFAULT_METHOD = "auto"
# Not calip: its spatial tokens are too large for the feature store, so every run would encode all images.
DEFAULT_METHODS = ("zero-shot", "tip-adapter", "ape", "ape-t", "gda", "linear-probe", "auto")
_MAX_TEST = 1000  # test images at most, spread over the classes
_TEXTILE_NOTE = (
    "The textile images are simulated: a photo of fabric with defects drawn by a program, 2,000 of them, "
    "from the package conformal-clip-data (MIT). Figures on real defects may differ."
)
_TEXTILE_PROMPTS = {
    "global": ["a photo of fabric with a defect all over."],
    "local": ["a photo of fabric with a small local defect."],
    "nominal": ["a photo of fabric without a defect."],
}


@dataclass(frozen=True)
class DemoData:
    """Images to draw shots from, images to test on, and what to say of them."""

    pool: LabelledSources
    test: LabelledSources
    prompts: Mapping[str, Sequence[str]] | None
    notes: tuple[str, ...]


def run_demo(
    images: Path | None,
    output: Path,
    *,
    encoder: str = "pocket",
    methods: Sequence[str] = DEFAULT_METHODS,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 64,
    skip_unreadable: bool = False,
    progress: bool = True,
    program: str = "fewclip",
    show: Callable[[Comparison], None] = lambda comparison: None,
) -> Comparison:
    """Compares methods over shots, writes a report, keeps an adapter of the default method.

    Args:
        images: Labelled images; None: the simulated textile photos.
        output: Folder for ``report/index.html`` and ``demo.adapter``.
        encoder: Name of the encoder.
        methods: Names of methods.
        shots: Images a class.
        seed: Seed of the split into pool and test, and of the first of three draws.
        device: Where the methods compute.
        batch_size: Images handed to the encoder at once.
        skip_unreadable: Leave out images that cannot be read, and say so, instead of raising.
        progress: Show bars and explanations on stderr.
        program: How the commands to try next call this program.
        show: Gets the comparison as soon as it is there.
    """
    start = time.perf_counter()
    check_methods(methods)
    # No markup: a path may hold brackets.
    console = Console(stderr=True, quiet=not progress, highlight=False, soft_wrap=True, markup=False)
    data = _demo_data(images, seed, skip_unreadable)
    possible = max(data.pool.shots().values())
    if max(shots) > possible:
        console.print(f"no class has more than {possible} images to draw from, so shots end there")
    shots = sorted({k for k in shots if k <= possible}) or [possible]
    seeds = range(seed, seed + N_DRAWS)
    console.print(f"data: {_describe(data)}")
    draws = {(k, s): draw_shots(data.pool.labels, k, seed=s) for k in shots for s in seeds}
    features, data, draw = _features(
        data, load_encoder(encoder), draws, methods, batch_size=batch_size, progress=progress
    )
    comparison = compare(
        features, methods=methods, shots=shots, seeds=seeds, draw=draw, device=device, progress=progress
    )
    show(comparison)
    # Not the winner of the table: that would be a choice made on the test images.
    method = DEFAULT_METHOD if DEFAULT_METHOD in methods else methods[-1]
    classifier = FewShotClassifier(encoder, method, prompts=data.prompts, device=device, progress=False)
    classifier.fit(data.pool, shots=shots[-1], seed=seed)
    adapter = classifier.save_pretrained(output / "demo.adapter", overwrite=True)
    commands = _next_commands(images, output, adapter, data, program)
    report = _report(classifier, data, comparison, output, commands)
    console.print(
        f"{classifier.summary_}\n\nreport   {report}\nadapter  {adapter} (fitted on the images above)"
    )
    console.print(f"{time.perf_counter() - start:.0f} s{_peak_memory()}\n\nTry next:")
    for command in commands:
        console.print(f"  {command}")
    return comparison


def _demo_data(images: Path | None, seed: int, skip_unreadable: bool = False) -> DemoData:
    if images is None:
        data = replace(labelled_sources(_textile_folder(), None), origin="simulated textile photos")
        prompts, notes = _TEXTILE_PROMPTS, (_TEXTILE_NOTE,)
    else:
        data = labelled_sources(images, None)
        prompts, notes = None, ()
    if skip_unreadable:
        data = readable(data)
    if len(data.classes) < 2:
        raise DataError(
            data.origin,
            expected="images of at least two classes",
            got="one",
            fix="Name a folder with one subfolder for each class.",
        )
    if images is not None and "test" in find_splits(images):
        test = labelled_sources(images, None, prefer="test")
        return DemoData(data, _at_most(readable(test) if skip_unreadable else test, seed), prompts, notes)
    pool, test = holdout_split(data.labels, test_fraction=0.5, seed=seed)
    if not len(test):
        raise DataError(
            data.origin,
            expected="at least two images of some class: one to learn from, one to test on",
            got=f"{len(data.labels)} images of {len(data.classes)} classes",
            fix="Add images, or go straight to: fewclip fit FOLDER -o NAME.adapter",
        )
    tested = _at_most(data.take(test), seed)
    if len(tested.labels) < len(test):
        notes = (
            *notes,
            f"{len(test) - len(tested.labels)} images of large classes are left out of the test.",
        )
    return DemoData(data.take(pool), tested, prompts, notes)


def _textile_folder() -> Path:
    spec = importlib.util.find_spec("conformal_clip_data")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "package conformal-clip-data",
            expected="it installed, for the demo's textile images",
            got="nothing",
            fix='Install it with: pip install "fewclip[demo]", or name a folder of your own images.',
        )
    return Path(spec.origin).parent / "data" / "textile_images" / "simulated"


def _at_most(data: LabelledSources, seed: int) -> LabelledSources:
    per_class = max(1, _MAX_TEST // len(data.classes))
    return data.take(draw_shots(data.labels, per_class, seed=seed))


def _describe(data: DemoData) -> str:
    text = (
        f"{len(data.pool.classes)} classes from {data.pool.origin}; {len(data.pool.labels)} images to draw "
        f"from, {len(data.test.labels)} to test on, none in both"
    )
    return "\n".join([text, *data.notes])


def _features(
    data: DemoData,
    encoder: Encoder,
    draws: Mapping[tuple[int, int], np.ndarray],
    methods: Sequence[str],
    *,
    batch_size: int,
    progress: bool,
) -> tuple[Data, DemoData, Draw]:
    """Features of the drawn and of the test images, the data without the rest, the draws as rows of them.

    Test images that are also in the pool, by content, are left out with a warning.
    """
    drawn = sorted({int(i) for rows in draws.values() for i in rows})
    row_of = {i: row for row, i in enumerate(drawn)}
    pool = data.pool.take(drawn)
    with FeatureStore() as store:
        encoded = encode_sources(
            [*pool.sources, *data.test.sources],
            encoder,
            store=store,
            batch_size=batch_size,
            tokens=any(with_tokens(METHODS[name], encoder) for name in methods),
            progress=progress,
        )
        encoded.require(data.pool.origin, skip_unreadable=False)
        text_features = encode_prompts(
            encoder, build_prompts(pool.classes, prompts=data.prompts, called=pool.called), store=store
        )
    split = len(pool.sources)
    seen = set(encoded.keys[:split])
    unseen = [i for i, key in enumerate(encoded.keys[split:]) if key not in seen]
    if len(unseen) < len(data.test.sources):
        n = len(data.test.sources)
        warnings.warn(
            f"{n - len(unseen)} of {n} images to test on are also to draw from: left out", stacklevel=2
        )
    test = data.test.take(unseen)
    features = Data(
        features=encoded.features[:split],
        labels=np.array(pool.labels),
        test_features=encoded.features[split:][unseen],
        test_labels=np.array(test.labels),
        text_features=text_features,
        classes=np.array(pool.classes),
        logit_scale=encoder.logit_scale,
    )

    def draw(labels: Sequence[str], shots: int, *, seed: int) -> np.ndarray:
        return np.array([row_of[int(i)] for i in draws[shots, seed]])

    return features, replace(data, test=test), draw


def _report(
    classifier: FewShotClassifier,
    data: DemoData,
    comparison: Comparison,
    output: Path,
    commands: Sequence[str],
) -> Path:
    evaluation = classifier.evaluate(data.test)
    first, last = comparison.shots[0], comparison.shots[-1]
    return write_classifier_report(
        classifier,
        evaluation,
        data.test,
        output / "report",
        title="A few labelled images per class",
        lead=(
            f"Each method saw {first} to {last} labelled images of {len(data.pool.classes)} classes, drawn "
            f"{N_DRAWS} times, and was tested on {len(data.test.labels)} other images. No setting was chosen "
            f"on the test images. The classifier below is {classifier.summary_.method} with {last} images a "
            "class."
        ),
        facts={
            "images": _describe(DemoData(data.pool, data.test, None, ())),
            "encoder": f"{classifier.encoder_.name}: a small stand-in for CLIP, embedded in the package"
            if classifier.encoder_.name == "pocket"
            else classifier.encoder_.name,
            "classes": ", ".join(map(str, data.pool.classes[:12])),
        },
        comparison=comparison,
        notes=[
            *data.notes,
            "The spread is over draws of the labelled images.",
            "Settings were chosen by leave-one-out on the labelled images; with one image a class nothing "
            "can be left out, and the images count as much as the text errs about them.",
        ],
        next_commands=commands,
    )


def _next_commands(
    images: Path | None, output: Path, adapter: Path, data: DemoData, program: str
) -> list[str]:
    example = data.test.sources[0]
    folder = shlex.quote(str(images)) if images else "YOUR_FOLDER"
    quoted = shlex.quote(str(adapter))
    return [
        f"{program} explain {quoted} {shlex.quote(str(example))}",
        f"{program} fit {folder} -o {shlex.quote(str(output / 'mine.adapter'))}   # learns from all images",
        f"{program} predict {quoted} NEW_IMAGES -o predictions.csv",
        *([] if images else ["make demo DATA=YOUR_FOLDER   # one subfolder a class"]),
    ]


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    return f", peak memory {peak:.2f} GB"
