"""Helpers of the book's ``common/util.py``."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.compat._types import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["col2im", "conv_output_size", "im2col", "np", "shuffle_dataset", "smooth_curve"]


def smooth_curve(x: ArrayLike) -> Array:
    """Smooth a curve with a Kaiser window (beta = 2) over 11 values, mirrored at its ends.

    Parameters
    ----------
    x : array_like, shape (n,)
        Values.

    Returns
    -------
    ndarray, shape (n,)
        Smoothed values.
    """
    x, window = np.asarray(x), np.kaiser(11, 2)
    mirrored = np.concatenate([x[10:0:-1], x, x[-1:-11:-1]])
    smooth = np.convolve(window / window.sum(), mirrored, mode="valid")
    return smooth[5:-5]


def shuffle_dataset(x: Array, t: Array) -> tuple[Array, Array]:
    """Put samples and targets in one new order, from ``np.random``.

    Parameters
    ----------
    x : ndarray, of 2 or 4 dimensions
        Samples.
    t : ndarray
        Their targets.

    Returns
    -------
    x : ndarray
        Samples.
    t : ndarray
        Targets.
    """
    if x.ndim not in (2, 4):
        raise IndexError(f"x: expected 2 or 4 dimensions, got shape {x.shape}")
    order = np.random.permutation(x.shape[0])
    return x[order], t[order]


def conv_output_size(input_size: float, filter_size: float, stride: float = 1, pad: float = 0) -> float:
    """Compute (input_size + 2 pad - filter_size) / stride + 1.

    Parameters
    ----------
    input_size : int
        Size of an image.
    filter_size : int
        Size of the filter.
    stride : int, default 1
        Distance of two windows.
    pad : int, default 0
        Zeros on either side.

    Returns
    -------
    float
        Number of windows.
    """
    return (input_size + 2 * pad - filter_size) / stride + 1


def im2col(input_data: Array, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> Array:
    """Put the windows of images into rows.

    Parameters
    ----------
    input_data : ndarray, shape (n, c, h, w)
        Images.
    filter_h : int
        Height of a window.
    filter_w : int
        Width of a window.
    stride : int, default 1
        Distance of two windows.
    pad : int, default 0
        Zeros on every side.

    Returns
    -------
    ndarray of float64, shape (n windows, c filter_h filter_w)
        A window in each row.
    """
    n, channels, height, width = input_data.shape
    rows, columns = _windows(height, filter_h, stride, pad), _windows(width, filter_w, stride, pad)
    padded = np.pad(input_data, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (filter_h, filter_w), axis=(2, 3))
    views = views[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)
    return views.astype(np.float64, order="C").reshape(n * rows * columns, -1)


def col2im(col: Array, input_shape: tuple[int, int, int, int], filter_h: int, filter_w: int, stride: int = 1,
           pad: int = 0) -> Array:
    """Add the windows up to images: the transposed map of `im2col`.

    Parameters
    ----------
    col : ndarray, shape (n windows, c filter_h filter_w)
        A window in each row.
    input_shape : tuple of int
        Shape (n, c, h, w) of the images.
    filter_h : int
        Height of a window.
    filter_w : int
        Width of a window.
    stride : int, default 1
        Distance of two windows.
    pad : int, default 0
        Zeros on every side.

    Returns
    -------
    ndarray of float64, shape (n, c, h, w)
        Images.
    """
    n, channels, height, width = input_shape
    rows, columns = _windows(height, filter_h, stride, pad), _windows(width, filter_w, stride, pad)
    windows = col.reshape(n, rows, columns, channels, filter_h, filter_w).transpose(4, 5, 0, 3, 1, 2)
    image = np.zeros((n, channels, height + 2 * pad + stride - 1, width + 2 * pad + stride - 1))
    for i, j in np.ndindex(filter_h, filter_w):
        image[:, :, i:i + stride * rows:stride, j:j + stride * columns:stride] += windows[i, j]
    return image[:, :, pad:height + pad, pad:width + pad]


def _windows(size: int, filter_size: int, stride: int, pad: int) -> int:
    return (size + 2 * pad - filter_size) // stride + 1
