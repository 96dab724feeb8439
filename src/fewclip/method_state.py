"""The fitted state of a method as a configuration, which is JSON, and named arrays; and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from fewclip.errors import AdapterError
from fewclip.methods import METHODS, FewShotMethod, method_name
from fewclip.selection import Estimate, SelectionResult

_IN_STATE = ("text_features", "classes")  # constructor arguments that the state holds in clean form
_SHARED = ("support_features_", "support_labels_", "text_features_")  # of a method and of its members alike


def method_state(method: FewShotMethod) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A fitted method as (configuration, arrays): its parameters, and all that ends in ``_``.

    A method made of others holds them as lists; the arrays of the i-th lie under ``members_.i.``.
    """
    name = _name_of(method)
    values: dict[str, Any] = {}
    members: dict[str, list[dict[str, Any]]] = {}
    tensors: dict[str, np.ndarray] = {}
    for key, value in vars(method).items():
        if not key.endswith("_") or key.startswith("_") or key in ("classes_", "selection_"):
            continue
        if isinstance(value, torch.Tensor):
            tensors[key] = value.detach().cpu().numpy()
        elif isinstance(value, list) and value and isinstance(value[0], FewShotMethod):
            members[key] = []
            for i, member in enumerate(value):
                state, arrays = method_state(member)
                members[key].append(state)
                own = {k: v for k, v in arrays.items() if k not in _SHARED}
                tensors |= {f"{key}.{i}.{k}": v for k, v in own.items()}
        else:
            values[key] = value
    return {
        "name": name,
        "params": _plain_params(method),
        "state": values,
        **({"members": members} if members else {}),
        "classes": method.classes_.tolist(),
        "selection": {key: value for key, value in asdict(method.selection_).items() if key != "held_out"},
    }, tensors


def _name_of(method: FewShotMethod) -> str:
    name = method_name(method)
    if name not in METHODS:
        raise AdapterError(
            f"method {type(method).__name__}",
            expected=f"one that an adapter can name: {', '.join(METHODS)}",
            got="a class of your own",
            fix="Add it to fewclip.methods.METHODS before saving and before loading.",
        )
    return name


def _plain_params(method: FewShotMethod) -> dict[str, Any]:
    """Constructor arguments as JSON has them; unfitted methods among them by name and arguments."""
    return {k: _plain(v) for k, v in method.get_params(deep=False).items() if k not in _IN_STATE}


def _plain(value: Any) -> Any:
    if isinstance(value, FewShotMethod):
        return {"method": _name_of(value), "params": _plain_params(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"method", "params"}:
        return _unfitted(value["method"], value["params"])
    return tuple(_from_plain(item) for item in value) if isinstance(value, list) else value


def _unfitted(name: str, params: Mapping[str, Any]) -> FewShotMethod:
    kind = METHODS[name]
    unknown = set(params) - set(inspect.signature(kind.__init__).parameters)
    if unknown:
        raise KeyError(f"parameter {sorted(unknown)[0]!r} of {name!r}")
    return kind(**{key: _from_plain(value) for key, value in params.items()})


def restore_method(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, device: str
) -> FewShotMethod:
    """The fitted method that ``method_state`` took apart.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: Parts that this version does not know or that do not
            fit; ``StoredAdapter.well_formed`` makes an ``AdapterError`` of them.
    """
    method = _unfitted(config["name"], {**config["params"], "device": device})
    method.classes_ = np.array(config["classes"])
    own = {key: array for key, array in tensors.items() if "." not in key}
    state = {key: torch.from_numpy(array).to(method._device) for key, array in own.items()}
    members = {
        key: [_restored_member(key, i, part, tensors, device) for i, part in enumerate(parts)]
        for key, parts in config.get("members", {}).items()
    }
    for key, value in {**state, **config["state"], **members}.items():
        if not key.endswith("_") or key.startswith("_"):
            raise KeyError(f"state {key!r}")
        setattr(method, key, value)
    method.selection_ = _selection(config["selection"])
    method.text_features, method.classes = method.text_features_.cpu().numpy(), method.classes_
    _check_state(method)
    return method


def _restored_member(
    key: str, i: int, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], device: str
) -> FewShotMethod:
    prefix = f"{key}.{i}."
    own = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    shared = {name: tensors[name] for name in _SHARED}
    return restore_method(config, {**shared, **own}, device=device)


def _selection(config: Mapping[str, Any]) -> SelectionResult:
    estimate = Estimate(**config["estimate"]) if config["estimate"] else None
    return SelectionResult(**{**config, "estimate": estimate})


def _check_state(method: FewShotMethod) -> None:
    """Raises ValueError, or whatever goes wrong in a first prediction, unless all parts fit together."""
    c, d, m = len(method.classes_), method.n_features_in_, len(method.support_labels_)
    if not np.array_equal(method.classes_, np.unique(method.classes_)):
        raise ValueError("classes that are not sorted")
    for key, expected in (("text_features_", (c, d)), ("support_features_", (m, d))):
        if tuple(getattr(method, key).shape) != expected:
            raise ValueError(f"{key} of shape {tuple(getattr(method, key).shape)}, not {expected}")
    probe = np.eye(1, d, dtype=np.float32)
    if not (np.isfinite(method.predict_proba(probe)).all() and np.isfinite(method.evidence(probe)[2]).all()):
        raise ValueError("features that are not finite")
