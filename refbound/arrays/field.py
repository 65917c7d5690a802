"""The receptive field: what one position of a convolution sees of a network. Not needed to understand the method.

A unit that a convolution feeds is a function of a window of the input alone, and of a window of every hidden layer. Cut
to those windows, the layers before it are a small network with one output position, the same at each position; the P
positions of N examples are N P examples of it. With a window of size w, stride t and padding q at the output of a
convolution of kernel k, stride s and padding p, the window at its input is

    w ← (w − 1) s + k,        t ← t s,        q ← q s + p

and begins with (1, 1, 0). Beyond the border of a hidden layer its convolution sees zeros: a window there holds units
with l = u = 0, whose two lines are 0; and beyond the border of the input centre = radius = 0. A convolution that
another one feeds directly, as one that normalises the image, puts zeros there itself (`Inside`).
"""

from dataclasses import dataclass, replace
from dataclasses import field as attribute
from typing import NamedTuple

from ..layers import Conv2d
from .ops import Window, namespace, scatter, windows


class Field(NamedTuple):
    """layers[:stop] as one position sees them; without windows, the layers as they are."""

    net: object
    windows: list   # of each ReLU, where they are cut
    input: Window   # of the input, or None

    def region(self, region):
        """The region of the input, cut."""
        if self.input is None:
            return region
        radius = namespace(region.radius).broadcast_to(region.radius, region.centre.shape)
        return region._replace(centre=cut(region.centre, self.input), radius=cut(radius, self.input))

    def pre(self, pre):
        """The (l, u) of the earlier ReLUs, cut: (N, n) -> (N P, K)."""
        if self.input is None:
            return pre
        return [tuple(cut(z, window) for z in pair) for pair, window in zip(pre, self.windows)]

    def pre_vjp(self, dpre):
        """The adjoint of `pre`: (N P, K) -> (N, n)."""
        if self.input is None:
            return dpre
        return [tuple(paste(d, window) for d in pair) for pair, window in zip(dpre, self.windows)]


@dataclass(frozen=True)
class Inside(Conv2d):
    """A convolution that sees zeros beyond the border, whatever the convolution before it puts out there."""

    inside: object = attribute(default=None, compare=False)  # (N P, K), 1 where its window is inside the image, else 0

    def patches(self, x):
        return super().patches(self.inside * x)

    def adjoint(self, W, g):
        return self.inside * super().adjoint(W, g)


def field(net, stop, N):
    """The Field of the units that layers[:stop] put out, for N examples.

    They are cut where all layers are convolutions and ReLUs, the last a convolution.
    """
    layers, kinds = list(net.layers[:stop]), [layer.kind for layer in net.layers[:stop]]
    if kinds[-1:] != ["conv2d"] or set(kinds) - {"conv2d", "relu"}:
        return Field(net, [], None)
    window, cuts = Window(None, (1, 1), (1, 1), (0, 0), layers[-1].window.out), []
    for i in reversed(range(stop)):
        if kinds[i] == "relu":
            cuts.insert(0, window)
            continue
        units, window, layers[i] = layers[i].units, before(layers[i], window), replace(layers[i], padding=(0, 0))
        if i and kinds[i - 1] == "conv2d" and window.padding != (0, 0):
            inside = net.xp.tile(cut(net.xp.ones((1, units), net.dtype), window), (N, 1))
            layers[i] = Inside(**{name: getattr(layers[i], name) for name in Conv2d.__match_args__}, inside=inside)
    layers[-1] = replace(layers[-1], stride=layers[-1].kernel_size)  # it has one position
    return Field(net.part(layers, (window.shape[2], *window.kernel)), cuts, window)


def before(convolution, window):
    """The window at the input of a convolution whose output is seen through `window`."""
    w, t, q, out = window.kernel, window.stride, window.padding, window.out
    k, s, p = convolution.kernel_size, convolution.stride, convolution.padding
    kernel = tuple((a - 1) * b + c for a, b, c in zip(w, s, k))
    stride = tuple(a * b for a, b in zip(t, s))
    padding = tuple(a * b + c for a, b, c in zip(q, s, p))
    return Window(convolution.window.shape, kernel, stride, padding, out)


def cut(z, window):
    """(N, H W C) -> (N P, kh kw C): each position's window, an example of its own."""
    X = windows(z, window)
    return X.reshape(X.shape[0] * X.shape[1] * X.shape[2], -1)


def paste(d, window):
    """The adjoint of `cut`."""
    return scatter(d.reshape(-1, *window.out, *window.kernel, window.shape[2]), window)
