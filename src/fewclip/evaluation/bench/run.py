"""The run: every cell that is not on disk yet, one after the other, each written as soon as it is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fewclip.data import FeatureStore, draw_shots
from fewclip.data._files import written_aside
from fewclip.encoders import Encoder, TokenEncoder, load_encoder
from fewclip.errors import DataError, FeatureError, ParameterError
from fewclip.evaluation._text import count
from fewclip.evaluation.bench.cells import CellFile
from fewclip.evaluation.bench.fits import failed, head, run_fit
from fewclip.evaluation.bench.images import SetImages, read_set
from fewclip.evaluation.bench.places import Place, Tested, tested_places
from fewclip.evaluation.bench.plan import Fit, Key, Plan
from fewclip.evaluation.bench.task import Encoding, Prepared, Queries, Task, open_task, prepare, queries_of
from fewclip.evaluation.comparison import ZERO_SHOT
from fewclip.methods import METHODS

Pending = dict[Fit, list[Place]]
Draws = Mapping[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        done: Cells that were computed now and worked.
        failed: Cells that were computed now and hold an error.
        known: Cells that were on disk before.
        first_error: Of the failed ones; "" if there are none.
    """

    done: int
    failed: int
    known: int
    first_error: str = ""


@dataclass
class _Run:
    """What all parts of a run share."""

    plan: Plan
    cells: CellFile
    encoding: Encoding
    device: str
    bar: Any
    done: int = 0
    failed: int = 0
    first_error: str = ""

    def write(self, line: dict[str, Any]) -> None:
        self.cells.append(line)
        self.done += line["error"] is None
        self.failed += line["error"] is not None
        self.first_error = self.first_error or line["error"] or ""
        self.bar.update()


def run_bench(
    plan: Plan,
    folder: str | Path,
    *,
    device: str = "auto",
    store: FeatureStore | None = None,
    batch_size: int = 64,
    skip_unreadable: bool = False,
    retry_failed: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Runs what the plan asks for and the folder does not hold yet.

    A run that was interrupted, even killed, goes on where it was. What a cell needs to be computed again
    stands in its line, and what its fingerprints stand for in ``folder/data``.

    Args:
        plan: What to run.
        folder: Gets ``cells.jsonl``, one line a cell.
        device: Where methods compute.
        store: Where features are kept between runs; None: the user's cache folder.
        batch_size: Images handed to the encoder at once.
        skip_unreadable: Leave out images that cannot be read, and say so.
        retry_failed: Run the cells again that hold an error.
        progress: Show bars on stderr.
        say: Gets sentences on what is run and what is not.

    Raises:
        DataError: Images that cannot be used; or the folder holds cells of the same names from other images,
            prompts or encoders, or another run writes there.
    """
    sets = [read_set(spec, skip_unreadable=skip_unreadable) for spec in plan.sets]
    prepared = list(_prepared(plan, sets))
    where = [tested_places(one.images, plan.shifts) for one in prepared]
    _announce(plan, prepared, where, say)
    kept = FeatureStore() if store is None else nullcontext(store)  # a caller's store stays open
    with CellFile(folder, retry_failed=retry_failed) as cells, kept as opened:
        for one in prepared:
            _check_same(one, cells)
        pending = [_pending(plan, one, tested, cells) for one, tested in zip(prepared, where, strict=True)]
        total = sum(len(places) for fits in pending for places in fits.values())
        known = sum(len(tested) for tested in where) * len(list(plan.fits())) - total
        say(f"{count(total, 'cell')} to run" + (f", {known} are there already" if known else ""))
        encoding = Encoding(opened, batch_size, progress)
        with tqdm(
            total=total, unit="cell", smoothing=0, file=sys.stderr, disable=not progress or not total
        ) as bar:
            run = _Run(plan, cells, encoding, device, bar)
            for one, tested, fits in zip(prepared, where, pending, strict=True):
                if fits:
                    _keep_manifests(Path(folder) / "data", one)
                    _run_set(run, one, tested, fits)
    return Outcome(run.done, run.failed, known, run.first_error)


def _announce(
    plan: Plan, prepared: list[Prepared], where: list[dict[Place, Tested]], say: Callable[[str], None]
) -> None:
    """What is not as a reader may think: classes left out, features that cannot be corrupted."""
    for note in dict.fromkeys(t.note for tested in where for t in tested.values() if t.note):
        say(note)
    ready = [one.images.spec.name for one in prepared if one.images.is_ready]
    if plan.shifts and len(ready) == len(prepared):
        raise ParameterError(
            "shifts", expected="images, to corrupt them", got="ready features alone",
            fix="Leave --shift out, or name folders of images.",
        )  # fmt: skip
    if plan.shifts and ready:
        say(f"{', '.join(ready)}: ready features, which cannot be corrupted: tested as they are")


def _prepared(plan: Plan, sets: Iterable[SetImages]) -> Iterator[Prepared]:
    encoders: dict[str, Encoder] = {}
    for images in sets:
        if images.is_ready:
            yield prepare(images, None)
            continue
        for name in images.spec.encoders or plan.encoders:
            if name not in encoders:
                encoders[name] = load_encoder(name)
            yield prepare(images, encoders[name])


def _pending(plan: Plan, one: Prepared, places: Iterable[Place], cells: CellFile) -> Pending:
    found: Pending = {}
    for fit in plan.fits():
        missing = [place for place in places if _key(one, fit, place) not in cells.cells]
        if missing:
            found[fit] = missing
    return found


def _key(one: Prepared, fit: Fit, place: Place) -> Key:
    return Key(one.images.spec.name, one.encoder_name, *fit, *place)


def _check_same(one: Prepared, cells: CellFile) -> None:
    """The cells of this data set and encoder that are there must come from the same images and prompts."""
    tests = {name: images.fingerprint for name, images in one.images.tests.items()}
    for line in cells.cells.values():
        if (line["dataset"], line["encoder"]) != (one.images.spec.name, one.encoder_name):
            continue
        now = one.fingerprints | {"test": tests.get(line["test"])}
        for part, there in line.get("fingerprints", {}).items():
            if now[part] is not None and there != now[part]:
                what = {"encoder": "another encoder", "test": "other test images"}
                raise DataError(
                    f"{cells.folder}, cells of {line['dataset']} with {line['encoder']}",
                    expected="cells of the same images, prompts and encoder",
                    got=what.get(part, "other training images, prompts or validation images"),
                    fix="Name another folder, or give the data set another name.",
                )


def _keep_manifests(folder: Path, one: Prepared) -> None:
    """What the fingerprints of the cells stand for: images by name and sha256, prompts."""
    wanted: dict[str, Callable[[], Any]] = {one.fingerprints["data"]: one.manifest}
    for name, images in one.images.tests.items():
        wanted[images.fingerprint] = lambda name=name, images=images: {
            "test": name,
            "images": images.listed(),
        }
    folder.mkdir(exist_ok=True)
    for key, content in wanted.items():
        path = folder / f"{key}.json"
        if not path.exists():
            with written_aside(path) as file:
                text = json.dumps(content(), ensure_ascii=False, default=str)
                file.write(text.encode("utf-8", "backslashreplace"))


def _run_set(run: _Run, one: Prepared, tested: dict[Place, Tested], fits: Pending) -> None:
    """All pending cells of a data set with an encoder; methods that look at spatial tokens come last."""
    train = one.images.train
    draws: dict[tuple[int, int], np.ndarray] = {}
    for fit in fits:
        # Zero-shot learns nothing from the support set; any draw will do.
        drawn = (fit.shots, fit.seed) if fit.shots else (min(run.plan.shots), run.plan.seeds[0])
        draws[fit.shots, fit.seed] = draw_shots(train.labels, drawn[0], seed=drawn[1])
    run.bar.set_description(f"{one.images.spec.name}: encode")
    try:
        task = open_task(one, {int(i) for drawn in draws.values() for i in drawn}, run.encoding)
    except Exception as error:
        _fail(run, one, fits, error)
        return
    with_tokens = {f for f in fits if METHODS[f.method].uses_tokens and isinstance(one.encoder, TokenEncoder)}
    plain = {fit: places for fit, places in fits.items() if fit not in with_tokens}
    _run_plain(run, task, tested, plain, draws)
    for place in dict.fromkeys(place for fit in with_tokens for place in fits[fit]):
        some = {fit: [place] for fit in fits if fit in with_tokens and place in fits[fit]}
        _run_with_tokens(run, task, tested[place], place, some, draws)


def _run_plain(run: _Run, task: Task, tested: dict[Place, Tested], fits: Pending, draws: Draws) -> None:
    """Fits that are tested everywhere at once; a place that cannot be encoded fails alone."""
    one, queries = task.prepared, {}
    for place in dict.fromkeys(place for places in fits.values() for place in places):
        own = place == (one.images.spec.name, None)
        halved = task.queries.halved and place[0] == one.images.spec.name
        run.bar.set_description(f"{one.images.spec.name}: encode {' '.join(filter(None, place))}")
        try:
            features = task.queries.features if own else run.encoding.tested(one, tested[place])
            queries[place] = queries_of(tested[place], features, halved=halved)
        except Exception as error:
            _fail(run, one, {fit: [place] for fit in fits if place in fits[fit]}, error)
    left = {fit: [place for place in places if place in queries] for fit, places in fits.items()}
    _run_fits(run, task, {fit: places for fit, places in left.items() if places}, draws, queries)


def _run_with_tokens(
    run: _Run, task: Task, tested: Tested, place: Place, fits: Pending, draws: Draws
) -> None:
    """Spatial tokens are too large for the store and for memory: they lie in a file while they are needed."""
    one = task.prepared
    halved = task.queries.halved and place[0] == one.images.spec.name
    try:
        with run.encoding.tokens(one, tested) as features:
            _run_fits(run, task, fits, draws, {place: queries_of(tested, features, halved=halved)})
    except Exception as error:
        left = {fit: some for fit, some in fits.items() if _key(one, fit, place) not in run.cells.cells}
        _fail(run, one, left, error)


def _run_fits(run: _Run, task: Task, fits: Pending, draws: Draws, queries: dict[Place, Queries]) -> None:
    one = task.prepared
    for fit, places in fits.items():
        shots = f", {count(fit.shots, 'shot')}" if fit.shots else ""
        run.bar.set_description(f"{one.images.spec.name}: {fit.method}{shots}")
        if fit.method == ZERO_SHOT and one.text is None:
            error = FeatureError(
                f"zero-shot on {one.images.spec.name}", expected="text features", got="none",
                fix="Add text_features to the file, or leave zero-shot out.",
            )  # fmt: skip
            _fail(run, one, {fit: places}, error)
            continue
        some = {place: queries[place] for place in places}
        for line in run_fit(task, fit, draws[fit.shots, fit.seed], some, device=run.device):
            run.write(line)


def _fail(run: _Run, one: Prepared, fits: Pending, error: Exception) -> None:
    for fit, places in fits.items():
        for place in places:
            run.write(failed(head(one, fit, place), error, fingerprints=one.fingerprints))
