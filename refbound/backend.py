"""Which array module an array belongs to, and the two array operations that a module cannot express alike.

One body of code serves numpy, cupy and autograd.numpy: a function asks `namespace(x)` on its first line and
calls only what all three have. This is the only file that names cupy or autograd.

`windows` and `scatter` are a linear map P and its adjoint Pᵀ: P shows each window of an image that a kernel sees, Pᵀ
adds every window back where it came from. With them a convolution is a few matrix products.

    x     (..., H W C)                 activations: an image pixel by pixel, channels last
    P x   (..., Ho, Wo, kh, kw, C)     the window at each of the Ho Wo positions
"""

import functools
import importlib
from typing import NamedTuple

import numpy


def namespace(*arrays):
    """The array module of the arrays: cupy or autograd.numpy if one of them belongs there, else numpy."""
    roots = {type(a).__module__.partition(".")[0] for a in arrays}
    if "cupy" in roots:
        return importlib.import_module("cupy")
    if "autograd" in roots:
        return importlib.import_module("autograd.numpy")
    return numpy


def positive(x):
    """x⁺ = max(x, 0). NumPy is three times as fast where both are arrays."""
    xp = namespace(x)
    return xp.maximum(x, xp.zeros(x.shape[-1:], x.dtype))


def is_array(x):
    """True for arrays of the modules that `namespace` knows."""
    return isinstance(x, numpy.ndarray) or type(x).__module__.partition(".")[0] in ("cupy", "autograd")


def to_host(x):
    """A NumPy copy of an array, wherever it lives. The one way from device to host."""
    return x.get() if namespace(x).__name__ == "cupy" else numpy.asarray(x)


def to_like(x, like):
    """The host array x where `like` lives. The one way from host to device."""
    xp = namespace(like)
    return xp.asarray(x) if xp.__name__ == "cupy" else x


def constant(x):
    """x as a constant: what stands in an array of autograd, the array itself in all others."""
    return importlib.import_module("autograd.tracer").getval(x) if namespace(x).__name__ == "autograd.numpy" else x


def device_module(device):
    """The array module for device "cpu" or "cuda"; ValueError, in one line, when it cannot be had."""
    if device == "cpu":
        return numpy
    if device != "cuda":
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        raise ValueError("device: 'cuda' needs CuPy, which is not installed (pip install 'refbound[gpu]')") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own classes, which cannot be named without it
        raise ValueError(f"device: 'cuda' needs a GPU, and CuPy finds none ({str(error).splitlines()[0]})") from None
    if count == 0:
        raise ValueError("device: 'cuda' needs a GPU, and CuPy finds none")
    return cupy


class Window(NamedTuple):
    """How a kernel walks over an image: kernel, stride, zeros before the first row and column, and positions."""

    shape: tuple    # (H, W, C) of the image
    kernel: tuple   # (kh, kw)
    stride: tuple   # (sh, sw)
    padding: tuple  # (ph, pw) before; after, as many as the last position needs
    out: tuple      # (Ho, Wo)

    @property
    def padded(self):
        """The image with its padding, (H′, W′, C)."""
        return (*(max(n + p, s * (o - 1) + k) for n, k, s, p, o in
                  zip(self.shape, self.kernel, self.stride, self.padding, self.out)), self.shape[2])


def windows(x, window):
    """P x: (..., H W C) -> (..., Ho, Wo, kh, kw, C), a view of the padded image: it copies nothing else."""
    if namespace(x).__name__ == "autograd.numpy":
        return _differentiable()[0](x, window)
    return _windows(x, window)


def scatter(X, window):
    """Pᵀ X: (..., Ho, Wo, kh, kw, C) -> (..., H W C), the adjoint: <P x, X> = <x, Pᵀ X>."""
    if namespace(X).__name__ == "autograd.numpy":
        return _differentiable()[1](X, window)
    return _scatter(X, window)


def _windows(x, window):
    (H, W, C), (kh, kw), (sh, sw), (ph, pw), (Ho, Wo) = window
    lead, xp = x.shape[:-1], namespace(x)
    image = x.reshape(*lead, H, W, C)
    if window.padded != window.shape:
        padded = xp.zeros((*lead, *window.padded), x.dtype)
        padded[..., ph:ph + H, pw:pw + W, :] = image
        image = padded
    *outer, row, column, channel = image.strides
    return xp.lib.stride_tricks.as_strided(image, (*lead, Ho, Wo, kh, kw, C),
                                           (*outer, sh * row, sw * column, row, column, channel))


def _scatter(X, window):
    (H, W, C), (kh, kw), (sh, sw), (ph, pw), (Ho, Wo) = window
    lead = X.shape[:-5]
    padded = namespace(X).zeros((*lead, *window.padded), X.dtype)
    for i in range(kh):
        for j in range(kw):
            rows, columns = slice(i, i + sh * (Ho - 1) + 1, sh), slice(j, j + sw * (Wo - 1) + 1, sw)
            padded[..., rows, columns, :] += X[..., i, j, :]
    return padded[..., ph:ph + H, pw:pw + W, :].reshape(*lead, H * W * C)


@functools.cache
def _differentiable():
    """The pair as autograd primitives, each the other's vjp; made when autograd first asks."""
    extend = importlib.import_module("autograd.extend")
    gather, spread = extend.primitive(_windows), extend.primitive(_scatter)
    extend.defvjp(gather, lambda value, x, window: lambda d: spread(d, window), None)
    extend.defvjp(spread, lambda value, x, window: lambda d: gather(d, window), None)
    return gather, spread
