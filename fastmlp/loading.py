"""Models from files; `fastmlp.saving` says what is in them."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastmlp import activations, losses
from fastmlp._core import checks, state
from fastmlp._core.saved import check_callbacks, model_of, read, set_generator, set_states
from fastmlp._core.strict_json import short
from fastmlp.model import MLP
from fastmlp.normalization import BatchNorm
from fastmlp.saving import file_name, stateful

if TYPE_CHECKING:
    from fastmlp._core.types import Path
    from fastmlp.optimizers import Optimizer

__all__ = ["load"]


def load(path: Path, optimizer: Optimizer | None = None, callbacks: Iterable[object] = ()) -> MLP:
    """Read the model that `MLP.save` wrote, on the backend in force.

    It predicts, and goes on training, as before.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        A regular file. Others may replace it or write to it meanwhile: the model is one that was saved.
    optimizer : Optimizer, optional
        One like that which was saved with the model; it gets its state.
    callbacks : iterable of objects, default ()
        Those that were saved with the model, in the same order. Each that has ``get_state`` and ``set_state``
        gets its state; others, functions above all, do not count.

    Returns
    -------
    MLP
        Model.

    Raises
    ------
    OSError
        FileNotFoundError, PermissionError, IsADirectoryError and others, as the system has them.
    ValueError
        For a file that is damaged, no model of fastmlp or of a later version; for a pipe or a device; where
        the file has no state of the optimizer or the callbacks, or one that does not fit.
    TypeError
        For arguments of the wrong type.
    MemoryError
        Where there is no room for the model and two copies of the file.

    Notes
    -----
    Nothing in the file is run, nothing is made of a size that the file only claims, and what is given changes
    only if all of it fits.

    References
    ----------
    The format: https://github.com/huggingface/safetensors

    Examples
    --------
    >>> model.save("net.safetensors")  # doctest: +SKIP
    >>> load("net.safetensors")  # doctest: +SKIP
    MLP([4, 8, 3], activation=['tanh'], loss='cross_entropy', dtype='float32')
    """
    path = file_name(path)
    if optimizer is not None and (isinstance(optimizer, type) or not hasattr(optimizer, "set_state")):
        raise TypeError(f"optimizer: expected an object of fastmlp.optimizers, got {optimizer!r}")
    with_state = stateful(callbacks)
    saved = read(path, with_optimizer=optimizer is not None, with_callbacks=bool(with_state))
    if optimizer is not None and saved.optimizer is None:
        raise ValueError(f"optimizer: no state of one was saved in {path}")
    check_callbacks(path, with_state, saved)
    model = _build(path, saved.settings)
    state.restore(model, saved.arrays)
    set_states(model, optimizer, saved.optimizer, with_state, [values for _, values in saved.callbacks])
    return model


def _build(path: str, settings: Mapping[str, Any]) -> MLP:
    with model_of(path):
        model = MLP(
            settings["layers"],
            activation=[_made("activation", f, activations.BY_NAME) for f in settings["activations"]],
            loss=_made("loss", settings["loss"], losses.BY_NAME),
            init="zeros",
            dtype=settings["dtype"],
            dropout=settings["dropout"],
            batch_norm=[None if norm is None else BatchNorm(**norm) for norm in settings["batch_norm"]],
            compute_dtype=settings.get("compute_dtype"),
        )
        set_generator(model.core.rng.bit_generator, settings["generator"])
        state.set_counters(model, settings["counters"])
    return model


def _made(name: str, description: Any, known: Mapping[str, type]) -> Any:
    if not isinstance(description, dict) or not isinstance(description.get("name"), str):
        raise TypeError(f"{name}: expected an object with a name, got {short(description)}")
    parameters = {key: value for key, value in description.items() if key != "name"}
    checks.known_name(name, description["name"], known)
    return known[description["name"]](**parameters)
