"""The prover: a certificate checked in exact arithmetic. Nothing is rounded, and no code is shared with refbound.

A certificate claims z_m − z_y < 0 for every class m ≠ y and every input x′ with |x′ − x| ≤ ε (and 0 ≤ x′ ≤ 1 if
clipped), where x = image / 255 and ε, a decimal fraction or one for each pixel, are exact. It carries l and u for the
input of every ReLU, and the slopes of two lines around each. Weights, l, u and slopes are floating-point numbers,
integers times a power of 2. Without a division,

    bounds       l ≤ z ≤ u                   proved for each ReLU by the interval bound from the claimed box of the one
                                             before, or else by Definition 1 with the lines s z and s z + b̄, as in CAP
    upper lines  max(z, 0) ≤ s z + b̄         on [l, u], b̄ = max(l⁺ − s l, u⁺ − s u), for any s: so it is at l and u,
                                             and a convex function lies below its chord
    lower lines  a z ≤ max(z, 0)             everywhere, for any a in [0, 1]
    margins      C f(x′) ≤ g·x′ + b          Definition 1, and its maximum over the ball: a fraction

A proof is a maximum below 0 for every m. Anything else is not proved, and the exact value says by how much.

Scope: f is the network as a real function with exactly these weights, not one machine's floating-point evaluation.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .claims import Rejected, check, network_digest, radii
from .integers import Exact, convolution, dense, exact


class Proof(NamedTuple):
    """What a certificate proves."""

    margins: dict     # m -> the exact upper bound of z_m − z_y, a Fraction

    @property
    def holds(self):
        return self.worst < 0

    @property
    def worst(self):
        return max(self.margins.values())


class Network:
    """A network as exact matrices: layers [(Matrix, bias (m, 1)), or None for a ReLU], units at each layer's input.

    From what a network file holds: the architecture (a list of dicts), its arrays by name, the shape of an input.
    """

    def __init__(self, architecture, params, input_shape):
        shape, self.layers, self.units = tuple(input_shape), [], [math.prod(input_shape)]
        self.digest = network_digest(architecture, params, input_shape)
        for i, spec in enumerate(architecture):
            if spec["type"] == "flatten":
                continue
            if spec["type"] == "relu":
                self.layers.append(None)
            else:
                W, bias = np.asarray(params[f"{i}.weight"]), np.asarray(params[f"{i}.bias"])
                matrix = dense(W) if spec["type"] == "linear" else convolution(
                    W, shape, spec.get("stride", 1), spec.get("padding", 0))
                shape = matrix.shape
                self.layers.append((matrix, exact(np.repeat(bias, math.prod(shape[1:])))[:, None]))  # of each position
            self.units.append(math.prod(shape))
        self.classes = self.units[-1]


def prove(certificate, network):
    """The Proof of a Certificate; Rejected where it is not what it says, or an l, u or slope cannot be proved."""
    check(certificate, network)
    low, high = ball(certificate)
    lines, box = [], (low, high)
    for i, layer in enumerate(network.layers):
        if layer is None:
            k = len(lines)
            l, u = exact(certificate.l[k])[:, None], exact(certificate.u[k])[:, None]
            prove_box(network.layers[:i], l, u, box, lines, low, high)
            lines.append(enclose(l, u, certificate.s[k], certificate.a[k]))
            box = l.positive(), u.positive()
        else:
            box = interval(*layer, *box)
    y, S = certificate.label, network.classes - 1
    others = [m for m in range(network.classes) if m != y]
    C = np.zeros((network.classes, S), object)
    C[others, range(S)], C[y] = 1, -1
    s = definition_1(network.layers, np.arange(len(C)), Exact(C, Fraction(1)), lines, low, high)
    return Proof({m: value * s.unit for m, value in zip(others, s.n.tolist())})


def ball(certificate):
    """The least and the greatest value of each input, (n, 1), in units of which 1/255, ε and 1 are multiples."""
    eps = radii(certificate)
    unit = Fraction(1, math.lcm(255, *(e.denominator for e in eps)))
    x = certificate.image.astype(object)[:, None] * int(Fraction(1, 255) / unit)
    r = np.array([int(e / unit) for e in eps], object)[:, None]
    low, high = x - r, x + r
    if certificate.clipped:
        low, high = np.maximum(low, 0), np.minimum(high, int(1 / unit))
    return Exact(low, unit), Exact(high, unit)


def interval(matrix, bias, low, high):
    """The exact interval bounds of W x + bias: 2 l, 2 u = A(W, low + high) + 2 bias ∓ A(|W|, high − low)."""
    centre, width = matrix @ (low + high) + bias + bias, matrix.magnitude @ (high - low)
    return (centre - width).half(), (centre + width).half()


def enclose(l, u, s, a):
    """(s, b̄, a) of the lines around a ReLU, (n, 1); a (n, S) where each margin has its own."""
    s, a = exact(s)[:, None], exact(np.atleast_2d(a).T)
    return s, (l.positive() - s * l).greatest(u.positive() - s * u), a


def definition_1(layers, rows, g, lines, low, high):
    """The exact maximum over the ball of the linear bound of g (len(rows), S), which has only these rows: (S,)."""
    b, k = Exact(np.zeros(g.n.shape[1], object), Fraction(1)), len(lines)
    for layer in reversed(layers):
        if layer is None:
            k, positive = k - 1, g.positive()
            s, intercept, a = (part[rows] for part in lines[k])
            b, g = b + (intercept * positive).total(), s * positive + a * (g - positive)
        else:
            matrix, bias = layer
            b = b + (bias[rows] * g).total()
            rows, g = matrix.adjoint(rows, g)
    positive = g.positive()
    return b + (positive * high[rows] + (g - positive) * low[rows]).total()


def prove_box(layers, l, u, box, lines, low, high):
    """l ≤ z ≤ u at these layers' output, from the interval bounds `box`, or by Definition 1 with parallel lines."""
    parallel = [(s, intercept, s) for s, intercept, _ in lines]
    for name, sign, tight in (("l", -1, ~(l <= box[0])), ("u", 1, ~(box[1] <= u))):
        for units in _neighbours(np.flatnonzero(tight), layers):
            if any(((s.n < 0) | (s.n * s.unit > 1)).any() for s, _, _ in lines):
                raise Rejected("s: an upper slope outside [0, 1], which is no slope of a lower line")
            C = Exact(sign * np.eye(len(units), dtype=int).astype(object), Fraction(1))
            s = definition_1(layers, units, C, parallel, low, high)
            claim = (u if sign == 1 else -l)[units, 0]
            if not (s <= claim).all():
                unit = units[np.argmin(s <= claim)]
                raise Rejected(f"{name} of ReLU {len(lines)}, unit {unit}: tighter than what can be proved")


def _neighbours(units, layers, size=64):
    """The units in groups that see much the same inputs: those of all channels at one place, then the next."""
    shape = next((layer[0].shape for layer in reversed(layers) if layer), (1,))
    places = math.prod(shape[1:])
    units = units[np.argsort(units % places, kind="stable")]
    return [units[i:i + size] for i in range(0, len(units), size)]
