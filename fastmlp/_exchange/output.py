"""What a network that leaves the library returns: logits or values, or the probabilities that the loss
makes."""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["output_function"]


def output_function(model: MLP, output: str) -> str | None:
    """"softmax" or "sigmoid" for ``output="proba"``, None for "logits".

    Raises ValueError for another `output`, and for probabilities of a loss that has none.
    """
    if output not in ("logits", "proba"):
        raise ValueError(f'output: expected "logits" or "proba", got {output!r}')
    if output == "logits":
        return None
    function = model.loss.output
    if function not in ("softmax", "sigmoid"):
        raise ValueError(f'output: expected "logits", for the loss {model.loss.name!r} has no probabilities, '
                         f"got {output!r}")
    return function
