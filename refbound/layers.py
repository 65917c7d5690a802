"""Linear, Conv2d, Flatten, ReLU: their geometry, and the three products of an affine layer.

Inside refbound the units of a layer lie in a row, an image pixel by pixel with its channels last: a batch of activations
is (N, n), a batch of S linear functions (S, N, n). `Flatten` puts an image's channels first, as PyTorch's does.

An affine layer is bilinear in its weights and its input. With P(x) the input as its weights see it, for Linear x itself:

    A(W, x)      apply      (..., n) -> (..., m)       from P(x)
    Aᵀ(W, g)     adjoint    (..., m) -> (..., n)       <g, A(W, x)> = <Aᵀ(W, g), x>
    dW(g, x)     outer      the gradient of <g, A(W, x)> in W, from P(x)

A convolution is one matrix product for each row of its kernel (convolution.py); with few channels all windows make one matrix
instead. Layers hold no parameters and remember nothing: W and the bias are arguments.
"""

import math
from dataclasses import dataclass, field, replace

from .backend import Window, namespace, scatter, windows
from .convolution import by_phases, correlate, kernel_row, pixels
from .layout import flat, images, paired, rows


class Affine:
    """What Linear and Conv2d share: `units` inputs, and `positions` at which the weights apply (1 for Linear)."""

    def spread(self, bias):
        """The bias of each unit: (out,) -> (m,)."""
        return namespace(bias).tile(bias, self.positions)

    def bias_dot(self, bias, g):
        """Σ_units bias g: (..., m) -> (...)."""
        return g @ self.spread(bias)

    def bias_sum(self, d):
        """The adjoint of `spread` and of a broadcast over leading axes: (..., m) -> (out,)."""
        return d.reshape(-1, d.shape[-1]).sum(0).reshape(self.positions, -1).sum(0)


def sizes(kind, layer, *names):
    """ValueError unless these fields of a layer are positive whole numbers."""
    for name in names:
        value = getattr(layer, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{kind}: {name} must be a whole number of at least 1, got {value!r}")


@dataclass(frozen=True)
class Linear(Affine):
    """z = W x + bias, W (out_features, in_features)."""

    in_features: int
    out_features: int
    positions = 1

    def __post_init__(self):
        sizes("linear", self, "in_features", "out_features")

    @property
    def units(self):
        return self.in_features

    @property
    def weight_shape(self):
        return (self.out_features, self.in_features)

    def at(self, shape):
        """This layer at its place in a network, and the shape it puts out; ValueError if it does not fit."""
        if shape != (self.in_features,):
            raise ValueError(f"linear: expected an input of shape ({self.in_features},), got {shape}")
        return self, (self.out_features,)

    def patches(self, x):
        return x

    def apply(self, W, x):
        return (flat(x) @ W.T).reshape(*x.shape[:-1], -1)

    def adjoint(self, W, g):
        return (flat(g) @ W).reshape(*g.shape[:-1], -1)

    def outer(self, g, x):
        g, x = paired(g, x, -2)
        return flat(g).T @ flat(x)

    def spec(self):
        return {"type": "linear", "in_features": self.in_features, "out_features": self.out_features}


@dataclass(frozen=True)
class Conv2d(Affine):
    """Cross-correlation with zero padding, W (out_channels, in_channels, kh, kw).

    kernel_size, stride and padding are a number or a pair (rows, columns).
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    window: Window = field(default=None, compare=False)  # set by `at`

    def __post_init__(self):
        sizes("conv2d", self, "in_channels", "out_channels")
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            value = getattr(self, name)
            pair = (value, value) if isinstance(value, int) else value
            if not isinstance(pair, (tuple, list)) or len(pair) != 2 \
                    or not all(isinstance(v, int) and v >= least for v in pair):
                raise ValueError(f"conv2d: {name} must be one or two integers of at least {least}, got {value!r}")
            object.__setattr__(self, name, tuple(pair))

    @property
    def weight_shape(self):
        return (self.out_channels, self.in_channels, *self.kernel_size)

    @property
    def units(self):
        return math.prod(self.window.shape)

    @property
    def positions(self):
        return math.prod(self.window.out)

    def at(self, shape):
        """This layer at its place in a network, and the shape it puts out; ValueError if it does not fit."""
        if len(shape) != 3 or shape[0] != self.in_channels:
            raise ValueError(f"conv2d: expected an input of shape ({self.in_channels}, H, W), got {shape}")
        image, (k, s, p) = (*shape[1:], shape[0]), (self.kernel_size, self.stride, self.padding)
        out = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(image, k, s, p))
        if min(out) < 1:
            raise ValueError(f"conv2d: kernel {self.kernel_size} does not fit in {shape} with padding {self.padding}")
        return replace(self, window=Window(image, k, s, p, out)), (self.out_channels, *out)

    @property
    def thin(self):
        """With few channels a product for each row of the kernel is thin: all windows make one matrix, a copy."""
        return self.in_channels < 8

    def patches(self, x):
        """(..., N, Ho, Wo, kh, kw, C), a view; where thin (..., N, Ho Wo, kh kw C)."""
        X = windows(x, self.window)
        return X.reshape(*X.shape[:-5], self.positions, -1) if self.thin else X

    def apply(self, W, X):
        if self.thin:
            return (flat(X) @ pixels(W).T).reshape(*X.shape[:-2], -1)
        K = W.transpose((2, 3, 1, 0)).reshape(1, W.shape[2], -1, len(W))
        Y = correlate(X, K)[0]  # (Ho, Wo, B, O)
        return Y.transpose((2, 0, 1, 3)).reshape(*X.shape[:-5], -1)

    def outer(self, g, X):
        g, X = paired(g, X, -3 if self.thin else -6)
        G = g.reshape(-1, *self.window.out, self.out_channels)
        if self.thin:
            D = (flat(G).T @ flat(X)).reshape(-1, *self.kernel_size, self.in_channels)
            return D.transpose((0, 3, 1, 2))
        G = G.transpose((1, 2, 0, 3))
        D = [(kernel_row(X, i).swapaxes(-1, -2) @ G).sum((0, 1)) for i in range(self.kernel_size[0])]  # (kw C, O) each
        return namespace(*D).stack(D).reshape(*self.kernel_size, -1, self.out_channels).transpose((3, 2, 0, 1))

    def adjoint(self, W, g):
        if not self.thin:
            return by_phases(W, g, self.window)
        X = flat(g.reshape(*g.shape[:-1], -1, len(W))) @ pixels(W)
        return scatter(X.reshape(*g.shape[:-1], *self.window.out, *self.kernel_size, -1), self.window)

    def spec(self):
        def short(pair):
            return pair[0] if pair[0] == pair[1] else list(pair)
        return {"type": "conv2d", "in_channels": self.in_channels, "out_channels": self.out_channels,
                "kernel_size": short(self.kernel_size), "stride": short(self.stride), "padding": short(self.padding)}


@dataclass(frozen=True)
class ReLU:
    """max(x, 0), with ReLU′(0) = 0."""

    def at(self, shape):
        return self, shape

    def spec(self):
        return {"type": "relu"}


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) -> (C H W,): the units of an image, channels first."""

    image: tuple = field(default=None, compare=False)  # set by `at`

    def at(self, shape):
        return replace(self, image=shape), (math.prod(shape),)

    def reorder(self, z):
        """Channels last -> channels first, (..., n)."""
        return images(z, self.image).reshape(z.shape)

    def restore(self, g):
        """The adjoint of `reorder`, which is its inverse."""
        return rows(g.reshape(*g.shape[:-1], *self.image), self.image)

    def spec(self):
        return {"type": "flatten"}


LAYERS = {"linear": Linear, "conv2d": Conv2d, "relu": ReLU, "flatten": Flatten}


def from_spec(spec):
    """The layer that an entry of `architecture` describes; ValueError if it describes none."""
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str) or spec["type"] not in LAYERS:
        raise ValueError(f"architecture: expected a layer of type {', '.join(LAYERS)}, got {spec!r}")
    arguments = {k: v for k, v in spec.items() if k != "type"}
    if unknown := {"image", "window"} & set(arguments):  # fields of a layer at its place
        raise ValueError(f"architecture: {spec!r}: unexpected {', '.join(sorted(unknown))}")
    try:
        return LAYERS[spec["type"]](**arguments)
    except TypeError as error:
        raise ValueError(f"architecture: {spec!r}: {error}") from None
