"""The number that a callback looks at after every epoch, and which of two is better."""
from __future__ import annotations

from collections.abc import Mapping

from fastmlp._core import checks

__all__ = ["checked_mode", "checked_monitor", "monitored"]

# The ends of names, ours and scikit-learn's: to be small, and to be large.
SMALLER = ("loss", "error", "deviance", "mae", "mse")
LARGER = ("accuracy", "r2", "score", "auc", "f1", "precision", "recall")


def checked_monitor(monitor: object) -> str | None:
    """A name in the logs, or None."""
    if monitor is not None and not isinstance(monitor, str):
        raise TypeError(f"monitor: expected a name, got {monitor!r}")
    return monitor


def checked_mode(mode: object) -> str | None:
    """"min", "max" or None."""
    if mode is not None:
        if not isinstance(mode, str):
            raise TypeError(f'mode: expected "min" or "max", got {mode!r}')
        checks.known_name("mode", mode, ["min", "max"])
    return mode


def monitored(logs: Mapping[str, float], monitor: str | None, mode: str | None) -> tuple[float, int]:
    """The number, and 1 if smaller is better, else -1; val_loss or loss, if no name is given.

    >>> monitored({"loss": 0.5, "val_accuracy": 0.9}, "val_accuracy", None)
    (0.9, -1)

    Raises ValueError for a name that is not in the logs or does not tell.
    """
    monitor = monitor or ("val_loss" if "val_loss" in logs else "loss")
    if monitor not in logs:
        validates = "val_loss" in logs
        hint = " (val_ needs validation_data)" if monitor.startswith("val_") and not validates else ""
        raise ValueError(f"monitor: {monitor!r} is not recorded{hint}, only {', '.join(logs)}")
    if mode is not None:
        smaller = mode == "min"
    elif monitor.endswith(SMALLER + LARGER):
        smaller = monitor.endswith(SMALLER)
    else:
        raise ValueError(f'mode: expected "min" or "max" for {monitor!r}, whose name does not tell')
    return float(logs[monitor]), 1 if smaller else -1
