"""Linear, Conv2d, Flatten, ReLU; the three products of an affine layer; the network that they make, with its gradient.

A batch of activations is (N, n), a batch of S linear functions of them (S, N, n): the units of a layer lie in a row, an
image pixel by pixel with its channels last. `Flatten` puts its channels first, as PyTorch's does.

An affine layer z = W x + bias is bilinear in W and x. With P(x) the input as its weights see it, for Linear x itself:

    A(W, x)      apply      (..., n) -> (..., m)       from P(x)
    Aᵀ(W, g)     adjoint    (..., m) -> (..., n)       <g, A(W, x)> = <Aᵀ(W, g), x>
    outer(g, x)             the gradient of <g, A(W, x)> in W, from P(x)

Layers hold no parameters and remember nothing. How a convolution becomes matrix products is in arrays/ops.py.
"""

import math
from dataclasses import dataclass, field, replace
from numbers import Integral

from .arrays.ops import Window, correlate, correlate_adjoint, images, namespace, positive, rows, scatter, windows


class Affine:
    """What Linear and Conv2d share: `units` inputs, and `positions` at which the weights apply (1 for Linear)."""

    def per_unit(self, bias):
        """The bias of each unit: (out,) -> (m,)."""
        return namespace(bias).tile(bias, self.positions)

    def bias_gradient(self, d):
        """The adjoint of `per_unit` and of a broadcast over leading axes: (..., m) -> (out,)."""
        return d.reshape(-1, d.shape[-1]).sum(0).reshape(self.positions, -1).sum(0)


def check_sizes(kind, layer, *names):
    """ValueError unless these fields of a layer are positive whole numbers."""
    for name in names:
        value = getattr(layer, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{kind}: {name} must be a whole number of at least 1, got {value!r}")
        object.__setattr__(layer, name, int(value))


@dataclass(frozen=True)
class Linear(Affine):
    """z = W x + bias, W (out_features, in_features)."""

    kind = "linear"
    in_features: int
    out_features: int
    positions = 1

    def __post_init__(self):
        check_sizes("linear", self, "in_features", "out_features")

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
        return (x.reshape(-1, x.shape[-1]) @ W.T).reshape(*x.shape[:-1], -1)

    def adjoint(self, W, g):
        return (g.reshape(-1, g.shape[-1]) @ W).reshape(*g.shape[:-1], -1)

    def outer(self, g, x):
        x = x if g.shape[-2] == x.shape[-2] else x.sum(-2, keepdims=True)  # one g for all examples
        return g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1])


@dataclass(frozen=True)
class Conv2d(Affine):
    """Cross-correlation with zero padding, W (out_channels, in_channels, kh, kw).

    kernel_size, stride and padding are a number or a pair (rows, columns).
    """

    kind = "conv2d"
    in_channels: int
    out_channels: int
    kernel_size: tuple
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    window: Window = field(default=None, compare=False)  # set by `at`

    def __post_init__(self):
        check_sizes("conv2d", self, "in_channels", "out_channels")
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            value = getattr(self, name)
            pair = (value, value) if isinstance(value, Integral) else value
            if not isinstance(pair, (tuple, list)) or len(pair) != 2 \
                    or not all(isinstance(v, Integral) and not isinstance(v, bool) and v >= least for v in pair):
                raise ValueError(f"conv2d: {name} must be one or two integers of at least {least}, got {value!r}")
            object.__setattr__(self, name, tuple(map(int, pair)))
        # with few channels a product for each row of the kernel is thin: all windows make one matrix instead, a copy
        object.__setattr__(self, "thin", self.in_channels < 8)
        object.__setattr__(self, "positions", math.prod(self.window.out) if self.window else None)

    @property
    def units(self):
        return math.prod(self.window.shape)

    @property
    def weight_shape(self):
        return (self.out_channels, self.in_channels, *self.kernel_size)

    def at(self, shape):
        """This layer at its place in a network, and the shape it puts out; ValueError if it does not fit."""
        if len(shape) != 3 or shape[0] != self.in_channels:
            raise ValueError(f"conv2d: expected an input of shape ({self.in_channels}, H, W), got {shape}")
        image, (k, s, p) = (*shape[1:], shape[0]), (self.kernel_size, self.stride, self.padding)
        out = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(image, k, s, p))
        if min(out) < 1:
            raise ValueError(f"conv2d: kernel {self.kernel_size} does not fit in {shape} with padding {self.padding}")
        return replace(self, window=Window(image, k, s, p, out)), (self.out_channels, *out)

    def patches(self, x):
        """(..., N, Ho, Wo, kh, kw, C), a view; if thin (..., N, Ho Wo, kh kw C), stored entry by entry over windows."""
        X = windows(x, self.window)
        if not self.thin:
            return X
        X = namespace(x).moveaxis(X, (-3, -2, -1), (0, 1, 2)).reshape(-1, *x.shape[:-1], self.positions)
        return namespace(x).moveaxis(X, 0, -1)

    def apply(self, W, X):
        if self.thin:
            return (X.reshape(-1, X.shape[-1])
                    @ W.transpose((0, 2, 3, 1)).reshape(len(W), -1).T).reshape(*X.shape[:-2], -1)
        K = W.transpose((2, 3, 1, 0)).reshape(1, W.shape[2], -1, len(W))
        Y = correlate(X, K)[0]  # (Ho, Wo, B, O)
        return Y.transpose((2, 0, 1, 3)).reshape(*X.shape[:-5], -1)

    def adjoint(self, W, g):
        if not self.thin:
            return correlate_adjoint(W, g, self.window)
        X = (W.transpose((0, 2, 3, 1)).reshape(len(W), -1).T @ g.reshape(-1, len(W)).T).T  # in memory as in `patches`
        return scatter(X.reshape(*g.shape[:-1], *self.window.out, *self.kernel_size, -1), self.window)

    def outer(self, g, X):
        N = -3 if self.thin else -6
        X = X if g.shape[-2] == X.shape[N] else X.sum(N, keepdims=True)  # one g for all examples
        G = g.reshape(-1, *self.window.out, self.out_channels)
        if self.thin:
            D = X.reshape(-1, X.shape[-1]).T @ G.reshape(-1, self.out_channels)  # (kh kw C, O)
            return D.reshape(*self.kernel_size, -1, self.out_channels).transpose((3, 2, 0, 1))
        Ho, Wo, kh, kw, C = X.shape[-5:]
        G, X = G.transpose((1, 2, 0, 3)), X.reshape(-1, Ho, Wo, kh, kw * C).transpose((3, 1, 2, 4, 0))
        D = [(seen @ G).sum((0, 1)) for seen in X]  # (kw C, O) for each row of the kernel
        return namespace(*D).stack(D).reshape(*self.kernel_size, -1, self.out_channels).transpose((3, 2, 0, 1))


@dataclass(frozen=True)
class ReLU:
    """max(x, 0), with ReLU′(0) = 0."""

    kind = "relu"

    def at(self, shape):
        return self, shape


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) -> (C H W,): the units of an image, channels first."""

    kind = "flatten"
    image: tuple = field(default=None, compare=False)  # set by `at`

    def at(self, shape):
        return replace(self, image=shape), (math.prod(shape),)

    def reorder(self, z):
        """Channels last -> channels first, (..., n)."""
        return images(z, self.image).reshape(z.shape)

    def restore(self, g):
        """The adjoint of `reorder`, which is its inverse."""
        return rows(g.reshape(*g.shape[:-1], *self.image), self.image)


# ---- the network z = f(x), its margins C(y) z, and gradients in its parameters ----

def forward(net, z):
    """Logits (N, c) of the rows z (N, n), and the input of every layer."""
    inputs = []
    for i, layer in enumerate(net.layers):
        inputs.append(z)
        if isinstance(layer, Affine):
            z = layer.apply(net.params[f"{i}.weight"], layer.patches(z)) + layer.per_unit(net.params[f"{i}.bias"])
        elif isinstance(layer, ReLU):
            z = positive(z)
        elif isinstance(layer, Flatten):
            z = layer.reorder(z)
    return z, inputs


def forward_vjp(dz, net, inputs, of="parameters"):
    """The gradients of <dz, f(x)> in every parameter, a dict; or with of="input" in x, (N, n). inputs: from `forward`.

    Through z = W x + bias: dW = outer(dz, x), dbias = dz, dx = Aᵀ(W, dz); through z = max(x, 0): dx = [x > 0] dz.
    """
    grads = {}
    for i in reversed(range(len(net.layers))):
        layer, x = net.layers[i], inputs[i]
        if isinstance(layer, Affine):
            if of == "parameters":
                grads[f"{i}.weight"] = layer.outer(dz, layer.patches(x))
                grads[f"{i}.bias"] = layer.bias_gradient(dz)
            if i > 0 or of == "input":
                dz = layer.adjoint(net.params[f"{i}.weight"], dz)
        elif isinstance(layer, ReLU):
            dz = (x > 0) * dz
        elif isinstance(layer, Flatten):
            dz = layer.restore(dz)
    return grads if of == "parameters" else dz


def unbroken(z, inputs):
    """(N,) bool: whether nothing overflows on the way to z; a ReLU makes 0 of −∞. Both from `forward`."""
    xp = namespace(z)
    return xp.stack([xp.isfinite(h).all(1) for h in (*inputs, z)]).all(0)


def margin_matrix(y, classes, dtype):
    """C(y) as (S, N, c), S = c − 1 (Section 3.1): row m of example n is e_m − e_y, for the classes m ≠ y in order."""
    xp = namespace(y)
    s, k = xp.arange(classes - 1)[:, None], xp.arange(classes)
    m = s + (s >= y)  # (S, N), the s-th class that is not y
    return (m[:, :, None] == k).astype(dtype) - (y[:, None] == k).astype(dtype)


def add(grads, more):
    """The sum of two dicts of gradients; a name that one lacks is 0 there."""
    return {name: grads[name] + more[name] if name in grads and name in more else grads.get(name, more.get(name))
            for name in {**grads, **more}}


def add_pairs(pairs, more):
    """The sums of two lists of pairs."""
    return [(a + c, b + d) for (a, b), (c, d) in zip(pairs, more)]
