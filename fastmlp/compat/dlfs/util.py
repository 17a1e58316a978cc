"""Helpers of the book's ``common/util.py``."""
from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["col2im", "conv_output_size", "im2col", "np", "shuffle_dataset", "smooth_curve"]


def smooth_curve(x: Any) -> Any:
    """x averaged with a Kaiser window (beta = 2) over 11 values, mirrored at its ends; of the length of x."""
    window = np.kaiser(11, 2)
    mirrored = np.concatenate([x[10:0:-1], x, x[-1:-11:-1]])
    smooth = np.convolve(window / window.sum(), mirrored, mode="valid")
    return smooth[5:-5]


def shuffle_dataset(x: Any, t: Any) -> Any:
    """x (2 or 4 dimensions) and t in one new order, from ``np.random``."""
    if x.ndim not in (2, 4):
        raise IndexError(f"x: expected 2 or 4 dimensions, got shape {x.shape}")
    order = np.random.permutation(x.shape[0])
    return x[order], t[order]


def conv_output_size(input_size: Any, filter_size: Any, stride: Any = 1, pad: Any = 0) -> Any:
    """(input_size + 2 pad - filter_size) / stride + 1"""
    return (input_size + 2 * pad - filter_size) / stride + 1


def im2col(input_data: Any, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> Any:
    """The windows of images (n, c, h, w): float64 (n windows, c filter_h filter_w), one in each row."""
    n, channels, height, width = input_data.shape
    rows, columns = _windows(height, filter_h, stride, pad), _windows(width, filter_w, stride, pad)
    padded = np.pad(input_data, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (filter_h, filter_w), axis=(2, 3))
    views = views[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)
    return views.astype(np.float64, order="C").reshape(n * rows * columns, -1)


def col2im(col: Any, input_shape: Any, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> Any:
    """The transposed map of `im2col`: images (n, c, h, w) in which the windows of col are added up."""
    n, channels, height, width = input_shape
    rows, columns = _windows(height, filter_h, stride, pad), _windows(width, filter_w, stride, pad)
    windows = col.reshape(n, rows, columns, channels, filter_h, filter_w).transpose(4, 5, 0, 3, 1, 2)
    image = np.zeros((n, channels, height + 2 * pad + stride - 1, width + 2 * pad + stride - 1))
    for i, j in np.ndindex(filter_h, filter_w):
        image[:, :, i:i + stride * rows:stride, j:j + stride * columns:stride] += windows[i, j]
    return image[:, :, pad:height + pad, pad:width + pad]


def _windows(size: int, filter_size: int, stride: int, pad: int) -> int:
    return (size + 2 * pad - filter_size) // stride + 1
