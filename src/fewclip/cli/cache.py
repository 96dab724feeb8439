"""`fewclip cache`: what the feature store holds, and how it gets smaller."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fewclip.cli.common import print_json
from fewclip.cli.options import Json

if TYPE_CHECKING:
    from fewclip.data import FeatureStore

cache = typer.Typer(
    name="cache", help="Look into the feature store, and make it smaller.", no_args_is_help=True
)
_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*([hdw])", re.IGNORECASE | re.ASCII)


@cache.command()
def info(as_json: Json = False) -> None:
    """Say where the feature store is, how large, and what it holds of which encoder."""
    from fewclip.data._sizes import show_size
    from fewclip.data.thumbnails import KIND

    with _store() as store:
        found = _describe(store)
    if as_json:
        print_json(found)
        return
    limit = found["limit"]
    typer.echo(f"path      {found['path'] or 'memory only'}")
    typer.echo(f"size      {show_size(found['bytes'])} of {'any' if limit is None else show_size(limit)}")
    typer.echo(f"features  {found['features']}")
    for row in found["encoders"]:
        what, counts = "encoder", f"{row['images']} images, {row['features']} features"
        if row["fingerprint"].endswith("/texts"):
            what, counts = "prompts", f"{row['images']} lists of sentences"
        elif row["fingerprint"] == KIND:
            what, counts = "pictures", f"{row['images']} images"
        typer.echo(f"{what:<8}  {row['fingerprint']}: {counts}, last used {row['last_used']}")


@cache.command()
def prune(
    max_size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--max-size", help="Size that the file may have afterwards, such as 500MB."),
    ] = None,
    older_than: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--older-than", help="Remove what was not used for so long: 12h, 30d, 8w."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove the features that were not used for longest."""
    from fewclip.data._sizes import parse_size
    from fewclip.errors import ParameterError

    if max_size is None and older_than is None:
        fix = "Say what may stay, such as --max-size 500MB."
        raise ParameterError("prune", expected="--max-size or --older-than", got="neither", fix=fix)
    max_bytes = None if max_size is None else parse_size(max_size, "--max-size")
    max_age = None if older_than is None else _seconds(older_than)
    with _store() as store:
        removed = store.prune(max_bytes=max_bytes, max_age=max_age) if _exists(store) else 0
        _report(store, removed, as_json)


@cache.command()
def clear(
    encoder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--encoder", help="Fingerprint, as `fewclip cache info` shows it; default: all."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove all features, or those of one encoder."""
    with _store() as store:
        names = [row["fingerprint"] for row in _describe(store)["encoders"]]
        if encoder is not None and encoder not in names:
            _refuse(encoder, names)
        if names and not yes:
            what = "all features" if encoder is None else f"the features of {encoder}"
            typer.confirm(f"Remove {what} from {_shown(store)}?", abort=True, err=True)
        removed = store.clear(fingerprint=encoder) if names else 0
        _report(store, removed, as_json)


def _store() -> FeatureStore:
    from fewclip.data import FeatureStore

    return FeatureStore()


def _exists(store: FeatureStore) -> bool:
    """Looking is no reason to create a file."""
    try:
        return store.path is not None and bool(store.path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # opening it says why


def _shown(store: FeatureStore) -> str | None:
    from fewclip.data._display import display_path

    return None if store.path is None else display_path(store.path)


def _describe(store: FeatureStore) -> dict[str, Any]:
    encoders = store.encoders() if _exists(store) else []
    rows = [
        {
            "fingerprint": use.fingerprint,
            "images": use.images,
            "features": use.features,
            "last_used": datetime.fromtimestamp(use.last_used, UTC).isoformat(timespec="minutes"),
        }
        for use in encoders
    ]
    size = store.info()["bytes"] if _exists(store) else 0
    features = sum(use.features for use in encoders)
    return {
        "path": _shown(store), "bytes": size, "limit": store.limit, "features": features, "encoders": rows,
    }  # fmt: skip


def _report(store: FeatureStore, removed: int, as_json: bool) -> None:
    from fewclip.data._sizes import show_size

    size = store.info()["bytes"] if _exists(store) else 0
    if as_json:
        print_json({"path": _shown(store), "removed": removed, "bytes": size})
    else:
        typer.echo(
            f"{removed} features removed; {_shown(store) or 'the feature store'} has {show_size(size)}"
        )


def _seconds(text: str) -> float:
    from fewclip.errors import ParameterError

    match = _AGE.fullmatch(text.strip())
    if not match:
        expected, fix = "a time such as 12h, 30d or 8w", "Use a number and h, d or w (hours, days, weeks)."
        raise ParameterError("--older-than", expected=expected, got=repr(text), fix=fix)
    return float(match[1]) * _SECONDS[match[2].lower()]


def _refuse(encoder: str, names: list[str]) -> None:
    from fewclip.errors import ParameterError

    known = f"one of {', '.join(names)}" if names else "none, as the feature store is empty"
    fix = "`fewclip cache info` shows the fingerprints."
    raise ParameterError("--encoder", expected=known, got=repr(encoder), fix=fix)
