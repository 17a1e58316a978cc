"""Layers that are often used together."""
from __future__ import annotations

from typing import Any

from .layers import affine_backward, affine_forward, relu_backward, relu_forward

__all__ = ["affine_relu_backward", "affine_relu_forward"]


def affine_relu_forward(x: Any, w: Any, b: Any) -> tuple[Any, Any]:
    """max(x w + b, 0); cache: those of affine_forward and relu_forward."""
    z, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(z)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Any, cache: Any) -> tuple[Any, Any, Any]:
    """dx, dw, db."""
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)
