"""Files of features that hold several splits: ``train_features``, ``train_labels``, ``val_features``, …"""

from __future__ import annotations

from collections.abc import Sequence

from fewclip.errors import DataError

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def split_arrays(keys: Sequence[str], wanted: str, origin: str) -> dict[str, str]:
    """Which array of a file goes by which name: those of one split without its prefix, and the common ones.

    Args:
        keys: Names of the arrays.
        wanted: ``train``, ``val`` or ``test``; ``valid`` and ``validation`` mean val.
        origin: The file, safe to print.

    Returns:
        Name → key; the keys themselves where the file has no splits.

    Raises:
        DataError: The file has splits, but not the wanted one.
    """
    splits = [prefix for prefix in SPLITS if f"{prefix}_features" in keys]
    if "features" in keys or not splits:
        return {key: key for key in keys}
    chosen = [prefix for prefix in splits if SPLITS[prefix] == SPLITS.get(wanted, wanted)]
    if not chosen:
        raise DataError(
            origin,
            expected=f"arrays of the split {wanted!r}, such as {wanted}_features",
            got=f"those of {', '.join(splits)}",
            fix="Name a split that the file has.",
        )
    prefixes = tuple(f"{prefix}_" for prefix in splits)
    common = {key: key for key in keys if not key.startswith(prefixes)}
    own = f"{chosen[0]}_"
    return common | {key.removeprefix(own): key for key in keys if key.startswith(own)}
