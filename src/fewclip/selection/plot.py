"""A picture of what a choice of settings has tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewclip.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from fewclip.selection.result import SelectionResult

_LEAST = 0.005  # strength that 0 is drawn at: the axis is logarithmic


def plot_selection(result: SelectionResult, axes: Any = None) -> Any:
    """Score against strength of every setting that was tried, the chosen strength as a line.

    Args:
        result: Of a fit that tried something.
        axes: Matplotlib axes to draw on; None: new ones.

    Returns:
        The axes.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ParameterError: Nothing was tried.
    """
    if not result.table:
        raise ParameterError(
            "selection_.plot()",
            expected="a fit that tried settings",
            got=f"protocol {result.protocol!r}, which tried none",
            fix="Use selection='loo', or pass X_val.",
        )
    if axes is None:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError(
                "matplotlib", expected="it for plots", got="nothing", fix='pip install "fewclip[plots]"'
            ) from error
        axes = Figure(layout="constrained").subplots()
    if "method" in result.table[0]:
        return _bars(result, axes)
    strengths = [max(row["strength"], _LEAST) for row in result.table]
    axes.scatter(strengths, [row["score"] for row in result.table], label="settings, each at its best")
    axes.axvline(max(result.strength or 0.0, _LEAST), color="black", linestyle="--", label="chosen strength")
    axes.set_xscale("log")
    axes.set_xlabel("strength: spread of the images' term over that of the text's")
    axes.set_ylabel("accuracy" if result.protocol == "full" else "mean log-likelihood (nats)")
    axes.legend()
    return axes


def _bars(result: SelectionResult, axes: Any) -> Any:
    """Estimated accuracy of the methods that were compared; those that have a say are filled."""
    rows = result.table[::-1]
    accuracies = [100 * (row["accuracy"] or 0.0) for row in rows]
    bars = axes.barh([row["method"] for row in rows], accuracies, edgecolor="tab:blue")
    for bar, row in zip(bars, rows, strict=True):
        bar.set_facecolor("tab:blue" if row["weight"] else "none")
    axes.set_xlabel("estimated accuracy (%); filled: has a say")
    return axes
