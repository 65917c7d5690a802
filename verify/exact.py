"""The prover: a certificate checked in exact arithmetic. Nothing is rounded, and no code is shared with refbound.

A certificate claims z_m − z_y < 0 for every class m ≠ y and every input x′ with |x′ − x| ≤ ε (and 0 ≤ x′ ≤ 1 if clipped),
where x = image / 255 and ε, a decimal fraction, are exact. It carries l and u for the input of every ReLU, and the slopes of
two lines around each. Weights, l, u and slopes are floating-point numbers, integers times a power of 2. Without a division,

    bounds       l ≤ z ≤ u                   is proved for each ReLU by the interval bound from the claimed box of the one
                                             before, or else by Definition 1 with the lines s z and s z + b̄, as in CAP
    upper lines  max(z, 0) ≤ s z + b̄         on [l, u], b̄ = max(l⁺ − s l, u⁺ − s u), for any s: so it is at l and at u,
                                             and a convex function lies below its chord
    lower lines  a z ≤ max(z, 0)             everywhere, for any a in [0, 1]
    margins      C f(x′) ≤ g·x′ + b          Definition 1, and its maximum over the ball: a fraction

A proof is a maximum below 0 for every m. Anything else is not proved, and the exact value says by how much.

Scope: f is the network as a real function with exactly these weights, not one machine's floating-point evaluation of it.

What is rejected by what. An l or u tighter than what is proved from the box before, and a lower slope outside [0, 1]:
by the mathematics. A looser l or u, or another slope, leaves true whatever is then proved, and an altered weight is another
network: these, and damage of every kind, by the SHA-256 of the network and of the whole certificate. Who recomputes the
digests makes another certificate; no one makes a false one that is proved.
"""

import hashlib
import json
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .integers import Exact, convolution, dense, exact

FLOATS = (np.float32, np.float64)


class Rejected(ValueError):
    """A certificate that is not what it says, and why, in one line."""


class Certificate(NamedTuple):
    """Of one image. Arrays are flat: n units of a ReLU, S = c − 1 margins, those of the classes m ≠ y in order."""

    network: str      # SHA-256 of the network
    image: object     # (n,) uint8
    label: int        # y
    eps: str          # ε, a decimal fraction
    clipped: bool
    l: list           # (n,) for each ReLU
    u: list           # (n,)
    s: list           # (n,) slopes of the upper lines
    a: list           # (n,) or (S, n) slopes of the lower lines
    digest: str = ""  # SHA-256 of all of the above

    def sealed(self):
        """The same with the digest that belongs to it."""
        return self._replace(digest=_sha(*self[:-1]))


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
    """A network as exact matrices: layers [(Matrix, bias (m, 1)), or None for a ReLU], units at the input of each layer.

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
                    W, shape, _pair(spec.get("stride", 1)), _pair(spec.get("padding", 0)))
                shape = matrix.shape
                self.layers.append((matrix, exact(np.repeat(bias, math.prod(shape[1:]))).column()))  # of each position
            self.units.append(math.prod(shape))
        self.classes = self.units[-1]


def network_digest(architecture, params, input_shape):
    """The SHA-256 that a certificate knows its network by."""
    return _sha(architecture, {name: np.asarray(params[name]) for name in sorted(params)}, list(input_shape))


def prove(certificate, network):
    """The Proof of a Certificate; Rejected where it is not what it says, or an l, u or slope cannot be proved."""
    if certificate.network != network.digest:
        raise Rejected("it is of another network, or a weight has changed: the digests of the network differ")
    if certificate.digest != certificate.sealed().digest:
        raise Rejected("it has changed since it was made: its digest differs")
    return bound(certificate, network)


def bound(certificate, network):
    """The mathematics of `prove`: l, u and the lines, and then the margins."""
    _check(certificate, network)
    low, high = ball(certificate)
    lines, box, relus = [], (low, high), network.layers.count(None)
    for i, layer in enumerate(network.layers):
        if len(lines) == relus:
            break
        if layer is None:
            k = len(lines)
            l, u = exact(certificate.l[k]).column(), exact(certificate.u[k]).column()
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
    eps = Fraction(certificate.eps)
    unit = Fraction(1, math.lcm(255, eps.denominator))
    x = certificate.image.astype(object)[:, None] * int(Fraction(1, 255) / unit)
    low, high = x - int(eps / unit), x + int(eps / unit)
    if certificate.clipped:
        low, high = np.maximum(low, 0), np.minimum(high, int(1 / unit))
    return Exact(low, unit), Exact(high, unit)


def interval(matrix, bias, low, high):
    """The exact interval bounds of W x + bias: 2 l, 2 u = A(W, low + high) + 2 bias ∓ A(|W|, high − low)."""
    centre, width = matrix @ (low + high) + bias + bias, matrix.magnitude @ (high - low)
    return (centre - width).half(), (centre + width).half()


def enclose(l, u, s, a):
    """(s, b̄, a) of the lines around a ReLU, (n, 1); a (n, S) where each margin has its own."""
    s, a = exact(s).column(), exact(np.atleast_2d(a).T)
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
    """l ≤ z ≤ u at the output of these layers, from the interval bounds `box`, or by Definition 1 with parallel lines."""
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
    if len(units) == 0:
        return []
    shape = next((layer[0].shape for layer in reversed(layers) if layer), (1,))
    places = math.prod(shape[1:])
    units = units[np.argsort(units % places, kind="stable")]
    return np.split(units, range(size, len(units), size))


# ---- files and checks ----

def save(certificate, file):
    """A Certificate as an .npz file (an open file or a path)."""
    fields = certificate._asdict()
    arrays = {f"{name}{k}": v for name in "lusa" for k, v in enumerate(fields.pop(name))}
    np.savez_compressed(file, **fields, **arrays)


def read(path):
    """The Certificate of an .npz file; Rejected if it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        lists = {name: [arrays[f"{name}{k}"] for k in range(len(arrays)) if f"{name}{k}" in arrays] for name in "lusa"}
        plain = {name: arrays[name].item() for name in ("network", "label", "eps", "clipped", "digest")}
        return Certificate(image=arrays["image"], **lists, **plain)
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and header parsers each raise their own classes on foreign bytes
        raise Rejected(f"{path}: not a certificate: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def _check(certificate, network):
    """What the mathematics takes for granted."""
    for name, kind in (("label", int), ("eps", str), ("clipped", bool)):
        if type(getattr(certificate, name)) is not kind:
            raise Rejected(f"{name}: expected {kind.__name__}, got {getattr(certificate, name)!r}")
    c, sizes = certificate, [n for n, layer in zip(network.units, network.layers) if layer is None]
    for name in "lusa":
        arrays = getattr(c, name)
        shapes = {n: [(n,), (network.classes - 1, n)][:1 + (name == "a")] for n in sizes}
        if len(arrays) != len(sizes) or any(v.shape not in shapes[n] or v.dtype not in FLOATS for v, n in zip(arrays, sizes)):
            raise Rejected(f"{name}: expected a float array for each ReLU, of {sizes} units, got {[v.shape for v in arrays]}")
        if not all(np.isfinite(v).all() for v in arrays):
            raise Rejected(f"{name}: a NaN or an infinity")
    if not all(((v >= 0) & (v <= 1)).all() for v in c.a):
        raise Rejected("a: a lower slope outside [0, 1]")
    if c.image.dtype != np.uint8 or c.image.shape != (network.units[0],) or c.label not in range(network.classes):
        raise Rejected(f"image, label: expected {network.units[0]} bytes and a class, got {c.image.shape} and {c.label}")
    try:
        eps = Fraction(c.eps)
    except (ValueError, ZeroDivisionError):
        eps = -1
    if eps < 0:
        raise Rejected(f"eps: expected a decimal fraction of at least 0, got {c.eps!r}")


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _sha(*parts):
    """SHA-256 of numbers, strings, arrays, and lists and dicts of them."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = part.astype(part.dtype.newbyteorder("<"))
            text = json.dumps([part.dtype.str, part.shape, hashlib.sha256(part.tobytes()).hexdigest()])
        elif isinstance(part, dict):
            text = json.dumps(["dict", *((key, _sha(value)) for key, value in part.items())])
        elif isinstance(part, list):
            text = json.dumps(["list", *map(_sha, part)])
        else:
            text = json.dumps(part)
        sha.update(f"{len(text)} {text}".encode())
    return sha.hexdigest()
