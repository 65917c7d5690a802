"""What the mathematics asks of arrays and array modules do not say alike. Not needed to understand it.

One body of code serves numpy, cupy and autograd.numpy: a function asks `namespace(x)` on its first line and calls only
what all three have. No file outside of this folder names cupy or autograd.

The units of an image lie in a row, pixel by pixel, channels last. `windows` and `scatter` are a linear map P and its
adjoint Pᵀ: P shows each window of an image that a kernel sees, Pᵀ adds every window back where it came from. With them
a convolution is a few matrix products.

    x     (..., H W C)                 activations of an image
    P x   (..., Ho, Wo, kh, kw, C)     the window at each of the Ho Wo positions
    W     (O, C, kh, kw)               the kernels
    B                                  all examples, and functions of them, in one axis
"""

import functools
import importlib
from dataclasses import dataclass

import numpy


UNLIKE = (numpy.ma.MaskedArray, numpy.matrix)  # NumPy's, but with products, sums and comparisons of their own: refused


# ---- array modules ----

def namespace(*arrays):
    """The array module of the arrays: cupy or autograd.numpy if one of them belongs there, else numpy."""
    roots = {type(a).__module__.partition(".")[0] for a in arrays}
    if "cupy" in roots:
        return importlib.import_module("cupy")
    if "autograd" in roots:
        return importlib.import_module("autograd.numpy")
    return numpy


def is_array(x):
    """True for arrays of the modules that `namespace` knows."""
    plain = isinstance(x, numpy.ndarray) and not isinstance(x, UNLIKE)
    return plain or type(x).__module__.partition(".")[0] in ("cupy", "autograd")


def is_float(x):
    """True for float32 or float64 arrays: what networks and balls are made of. Half precision rounds a small ε to 0."""
    return is_array(x) and x.dtype.kind == "f" and x.dtype.itemsize in (4, 8)


def described(x):
    """What came where an array was expected, in a few words: "float64 (3, 6)", "MaskedArray (3, 6)" or "list"."""
    return f"{x.dtype if is_array(x) else type(x).__name__} {getattr(x, 'shape', '')}".rstrip()


def to_host(x):
    """A NumPy copy of an array, wherever it lives. The one way from device to host."""
    return x.get() if namespace(x).__name__ == "cupy" else numpy.asarray(x)


def to_like(x, like):
    """The host array x where `like` lives. The one way from host to device."""
    xp = namespace(like)
    return xp.asarray(x) if xp.__name__ == "cupy" else x


def positive(x):
    """x⁺ = max(x, 0). NumPy is three times as fast where both are arrays."""
    xp = namespace(x)
    return xp.maximum(x, xp.zeros(x.shape[-1:], x.dtype))


def contract(pattern, a, b):
    """einsum of two arrays. Where CuPy's would make a matrix product for each number, multiplied and summed instead."""
    xp = namespace(a, b)
    if xp.__name__ != "cupy":
        return xp.einsum(pattern, a, b)
    axes, out = pattern.split("->")
    letters = "".join(dict.fromkeys(axes.replace(",", "")))
    a, b = (x[tuple(slice(None) if letter in of else None for letter in letters)]
            for x, of in zip((a, b), axes.split(",")))
    return (a * b).sum(tuple(i for i, letter in enumerate(letters) if letter not in out))


def upper_median(size):
    """1 at the draw that is the (upper) median, along axis 1, and 0 elsewhere, constant; draws that tie share the 1."""
    if namespace(size).__name__ == "autograd.numpy":
        size = importlib.import_module("autograd.tracer").getval(size)
    xp, middle = namespace(size), size.shape[1] // 2
    lanes = xp.ascontiguousarray(xp.moveaxis(size, 1, -1))
    picked = (size == xp.partition(lanes, middle)[:, None, ..., middle]).astype(size.dtype)
    return picked / picked.sum(1, keepdims=True)


# ---- images in rows, margins in columns ----

def rows(x, shape):
    """(..., *shape), images (C, H, W), -> (..., n), their units in a row, channels last."""
    lead = x.shape[:x.ndim - len(shape)]
    if len(shape) == 3:
        x = namespace(x).moveaxis(x, -3, -1)
    return x.reshape(*lead, -1)


def keeps_subnormals(xp, dtype):
    """Whether arithmetic in dtype keeps numbers below the least normal one; CuPy does in float64 alone."""
    kept = bool((xp.full(1, numpy.finfo(dtype).tiny, dtype) / 2 > 0).all())
    return kept and (xp.__name__ != "cupy" or dtype == numpy.float64)


def as_rows(x, dtype):
    """(N, *shape) -> (N, n), in a dtype."""
    return rows(x, x.shape[1:]).astype(dtype)


def images(z, shape):
    """The inverse of `rows`: (..., n) -> (..., *shape)."""
    if len(shape) != 3:
        return z.reshape(*z.shape[:-1], *shape)
    return namespace(z).moveaxis(z.reshape(*z.shape[:-1], *shape[1:], shape[0]), -1, -3)


def with_true_class(s, y):
    """Margins (S, N, ...) of the classes m ≠ y as (N, c, ...), with 0 at y."""
    xp = namespace(s)
    k = xp.arange(len(s) + 1)[:, None]
    row = xp.minimum(k - (k > y), len(s) - 1).reshape(-1, len(y), *(1,) * (s.ndim - 2))  # (c, N, ...)
    full = xp.take_along_axis(s, xp.broadcast_to(row, (len(s) + 1, *s.shape[1:])), 0)
    return xp.where((k == y).reshape(row.shape), xp.zeros((), s.dtype), full).swapaxes(0, 1)


# ---- windows ----

@dataclass(frozen=True)
class Window:
    """How a kernel walks over an image: kernel, stride, zeros before the first row and column, and positions."""

    shape: tuple    # (H, W, C) of the image
    kernel: tuple   # (kh, kw)
    stride: tuple   # (sh, sw)
    padding: tuple  # (ph, pw) before; after, as many as the last position needs
    out: tuple      # (Ho, Wo)

    def __post_init__(self):
        if self.shape:  # the image with its padding, (H′, W′, C)
            sides = zip(self.shape, self.kernel, self.stride, self.padding, self.out)
            padded = *(max(n + p, s * (o - 1) + k) for n, k, s, p, o in sides), self.shape[2]
            object.__setattr__(self, "padded", padded)


def windows(x, window):
    """P x: (..., H W C) -> (..., Ho, Wo, kh, kw, C), a view of the padded image: it copies nothing else."""
    lead, xp = x.shape[:-1], namespace(x)
    if xp.__name__ == "autograd.numpy":
        return _differentiable()[0](x, window)
    (H, W, C), (sh, sw), (ph, pw) = window.shape, window.stride, window.padding
    image = x.reshape(*lead, H, W, C)
    if window.padded != window.shape:
        padded = xp.zeros((*lead, *window.padded), x.dtype)
        padded[..., ph:ph + H, pw:pw + W, :] = image
        image = padded
    *outer, row, column, channel = image.strides
    return xp.lib.stride_tricks.as_strided(image, (*lead, *window.out, *window.kernel, C),
                                           (*outer, sh * row, sw * column, row, column, channel))


def scatter(X, window):
    """Pᵀ X: (..., Ho, Wo, kh, kw, C) -> (..., H W C), the adjoint: <P x, X> = <x, Pᵀ X>."""
    lead, xp = X.shape[:-5], namespace(X)
    if xp.__name__ == "autograd.numpy":
        return _differentiable()[1](X, window)
    (H, W, C), (sh, sw), (ph, pw), (Ho, Wo) = window.shape, window.stride, window.padding, window.out
    padded = xp.zeros((*lead, *window.padded), X.dtype)
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            rows, columns = slice(i, i + sh * (Ho - 1) + 1, sh), slice(j, j + sw * (Wo - 1) + 1, sw)
            padded[..., rows, columns, :] += X[..., i, j, :]
    return padded[..., ph:ph + H, pw:pw + W, :].reshape(*lead, H * W * C)


@functools.cache
def _differentiable():
    """The pair as autograd primitives, each the other's vjp; made when autograd first asks."""
    extend = importlib.import_module("autograd.extend")
    gather, spread = extend.primitive(windows), extend.primitive(scatter)
    extend.defvjp(gather, lambda value, x, window: lambda d: spread(d, window), None)
    extend.defvjp(spread, lambda value, x, window: lambda d: gather(d, window), None)
    return gather, spread


# ---- a convolution as one matrix product for each row of its kernel, at every position at once, and its adjoint ----

def correlate(X, K):
    """The sum over kernel rows of their products: X = P(x), K (Q, kh, kw C, O) -> (Q, Ho, Wo, B, O)."""
    Ho, Wo, kh, kw, C = X.shape[-5:]
    X = X.reshape(-1, Ho, Wo, kh, kw * C).transpose((3, 1, 2, 0, 4))  # by the kernel's row, kw pixels in a row already
    Y = X[0] @ K[:, None, None, 0]
    for i in range(1, K.shape[1]):
        Y += X[i] @ K[:, None, None, i]
    return Y


def correlate_adjoint(W, g, window):
    """Aᵀ(W, g) as a convolution of stride 1 over g, with s² kernels for each channel, interleaved.

    Row q = s t + π of the padded input met kernel row i = s x + π at output row t − x, x < k / s: each phase π sees
    the same few rows t − x of g, through every s-th row of the kernel. Rows that are padding are left out.
    """
    (H, Wd, C), k, s, p = window.shape, window.kernel, window.stride, window.padding
    taps = tuple(-(-a // b) for a, b in zip(k, s))  # k / s, the kernel filled with zeros to a multiple of s
    first = tuple(min(a // b, x - 1) for a, b, x in zip(p, s, taps))  # t
    out = tuple(-(-(a + n) // b) - t for a, n, b, t in zip(p, (H, Wd), s, first))
    phase = Window((*window.out, len(W)), taps, (1, 1), tuple(x - 1 - t for x, t in zip(taps, first)), out)
    xp, (sh, sw), (xh, xw) = namespace(W), s, taps
    if (xh * sh, xw * sw) != k:
        W = xp.concatenate((W, xp.zeros((*W.shape[:2], xh * sh - k[0], k[1]), W.dtype)), 2)
        W = xp.concatenate((W, xp.zeros((*W.shape[:3], xw * sw - k[1]), W.dtype)), 3)
    K = W.reshape(-1, C, xh, sh, xw, sw)[:, :, ::-1, :, ::-1]  # of each phase, its taps in the order of g's windows
    K = K.transpose((3, 2, 4, 0, 5, 1)).reshape(sh, xh, -1, sw * C)
    Y = correlate(windows(g, phase), K)  # (sh, th, tw, B, sw C)
    image = Y.transpose((3, 1, 0, 2, 4)).reshape(-1, out[0] * sh, out[1] * sw, C)
    top, left = (a - b * t for a, b, t in zip(p, s, first))
    return image[:, top:top + H, left:left + Wd].reshape(*g.shape[:-1], -1)
