"""The margin bound widened by a rigorous bound on its own rounding error, in the very arithmetic that computes it.

    s = sound_margin_bounds(net, ball, y, "one-step", rng=rng)        # (N, c), to be used as margin_bounds'

What holds, with the parameters, x and ε exactly the floating-point numbers given (a pixel k/255 is the float nearest to
it, 0.01 in float32 is 0.00999999978): every margin z_m − z_y over the ball in real arithmetic ≤ Definition 1 in real
arithmetic with the lines used here ≤ s. For l∞ balls and the methods whose l and u are interval bounds.

The model is fl(a ∘ b) = (a ∘ b)(1 + δ) + η with |δ| ≤ ½ ulp(1) and |η| ≤ the least normal number (Higham, "Accuracy and
Stability of Numerical Algorithms", 2002, Sections 2.2 and 3.1). A sum of n products in any order, in any blocking, with
or without FMA, is then off by at most γ_n Σ |products|, γ_n = n|δ| / (1 − n|δ|), and a little for underflow. It leaves
out Strassen's product, TF32, and subnormals flushed to zero. (Where a sum of W c overflows, so does that of |W| max|z|,
made by the same product: then there is an error, and no bound.) CuPy flushes them in float32: on a GPU only float64 is
taken. On a CPU a library built with -ffast-math may have turned flushing on: that is refused.

A step back computes g ← fl(Aᵀ(W, g)). That g is as good as any other; what it changes g·h by is charged to the bound:

    γ_K Aᵀ(|W|, |g|)·max|h| = γ_K |g|·A(|W|, max|h|)

where h runs over all points between the lines. One forward pass finds max|h|, and no product with S rows is added.
"""

import math
from typing import NamedTuple

import numpy as np

from . import checks
from .arrays.ops import as_rows, keeps_subnormals, namespace, with_true_class
from .interval import interval
from .layers import Affine, Conv2d, Flatten, ReLU, forward, margin_matrix
from .methods import METHODS
from .relaxation import Lines, chord


class Box(NamedTuple):
    """The z with |z − centre| ≤ radius in real arithmetic."""

    centre: object  # (N, n)
    radius: object  # (N, n)

    @property
    def ends(self):
        """l and u, rounded outwards."""
        xp = namespace(self.centre)
        return xp.nextafter(self.centre - self.radius, -np.inf), xp.nextafter(self.centre + self.radius, np.inf)

    @property
    def most(self):
        """max |z|, but for the rounding of this sum, which every charge leaves room for."""
        return abs(self.centre) + self.radius


def sound_margin_bounds(net, ball, y, method, **options):
    """s (N, c): upper bounds of z_m − z_y over the l∞ ball, rounding and all; column y is exactly 0.

    Takes what margin_bounds takes. Raises ValueError as it does, and for another norm, for a method whose l and u are
    not interval bounds, for a layer too wide for its dtype, for float32 on a GPU, and where subnormals are flushed.
    """
    row, region = checks.method(method), checks.problem(net, ball, y)
    if row.bounds is not interval or ball.norm != np.inf:
        known = ", ".join(name for name, row in METHODS.items() if row.bounds is interval)
        raise ValueError(f"method: expected one of {known}, and a ball of norm inf, "
                         f"got {method!r} and norm {ball.norm!r}")
    if flushed := sorted({str(dtype) for dtype in (net.dtype, ball.x.dtype, ball.eps.dtype)
                          if not keeps_subnormals(net.xp, dtype)}):
        raise ValueError("net: expected a network and a ball in arithmetic that keeps subnormal numbers, as float64 on "
                         f"a GPU, got {', '.join(flushed)}, which flushes them to zero")
    given = checks.method_options(net, ball, method, options)
    C, boxes = margin_matrix(y, net.classes, net.dtype), propagate(net, box_of(ball, net.dtype), relu_box)
    pre = [boxes[i].ends for i in net.relus]
    if row.slopes is None:
        start, lines = net.head, ()
    else:
        start = 0
        plain = row.margins(net, region, C, pre, given)
        lines = [rounded_lines(l, u, line.a_lo) for (l, u), line in zip(pre, plain.lines)]
    boxes = propagate(net, boxes[start], lambda k, box: between(lines[k], box), start)
    return checks.finite("sound_margin_bounds", with_true_class(backward(net, C, lines, boxes, start), y))


def rounding_allowance(net, ball, y):
    """τ (N, c): a bound of z_m − z_y that lies below a margin of the network in the ball by more than τ is wrong.

    Rounding alone, of the bound and of the margin, cannot do that; underflow can, of a product of weights that only the
    bound makes. For every method and norm; coarse, and meant for float64. Let ζ be the logits of the network of |W| and
    |bias| at max|x′| over the ball, ζ_k its values at ReLU k of K, and γ = γ_N for the N roundings that a product on
    its way from input to margin can meet. To first order:
      the logits are off by γ ζ, for max(z, 0) passes errors on and adds none (Higham, Section 3.1);
      a bound sums the products of ζ times slopes in [0, 1], and of each b̄_k ≤ max(−l_k, u_k) / 2, so that by induction
      −l_k, u_k ≤ (3/2)^k ζ_k: its own sums are off by γ (3/2)^k ζ_k, and its chords by γ (3/2)^j ζ_j at each j < k;
      lines of slopes in [0, 1] miss no more than l_j, u_j do. Together e_k = γ (3 (3/2)^k − 2) + Σ_{j<k} e_j ≤ 4^k γ.
    The sum for z_m and z_y, and for bound and margin, is at most 2 · 4^K γ (ζ_m + ζ_y).
    """
    low, high = ball.box(net.dtype)
    return 2 * 4.0 ** len(net.relus) * margin_rounding(net, net.xp.maximum(abs(low), abs(high)), y)


def margin_rounding(net, most, y):
    """γ (ζ_m + ζ_y) (N, c): by how much z_m − z_y may be off in rows x, |x| ≤ most (N, n), but for underflow."""
    xp, N = net.xp, 2 * sum(net.units) + 8 * len(net.layers)
    zeta = forward(net.with_params({name: xp.abs(value) for name, value in net.params.items()}), most)[0]
    return Model(net.dtype).gamma(N) * (zeta + xp.take_along_axis(zeta, y[:, None], 1))


# ---- forward ----

def propagate(net, box, relu, start=0):
    """[Box, ...] at the input of each layer and at the output, from `box` at that of layer `start` (None before it).

    relu(k, box) is what follows the k-th ReLU met.
    """
    boxes, k = [None] * start + [box], 0
    for i in range(start, len(net.layers)):
        if isinstance(net.layers[i], Affine):
            box = affine_box(net, i, box)
        elif isinstance(net.layers[i], ReLU):
            box, k = relu(k, box), k + 1
        elif isinstance(net.layers[i], Flatten):
            box = Box(net.layers[i].reorder(box.centre), net.layers[i].reorder(box.radius))
        boxes.append(box)
    return boxes


def affine_box(net, i, box):
    """A Box around W z + bias: the interval bound, its radius widened by what the three products may have lost."""
    layer, W, xp = net.layers[i], net.params[f"{i}.weight"], namespace(box.centre)
    bias, K, model = layer.per_unit(net.params[f"{i}.bias"]), product_terms(layer), Model(net.dtype)
    c, r = product(layer, W, box.centre) + bias, product(layer, xp.abs(W), box.radius)
    size = product(layer, xp.abs(W), box.most) + xp.abs(bias)
    return Box(c, r + (model.gamma(K + 8) * size + layer.units * model.least))


def relu_box(k, box):
    """A Box around max(z, 0)."""
    xp, (l, u) = namespace(box.centre), box.ends
    return box_between(xp.maximum(l, 0), xp.maximum(u, 0))


def between(line, box):
    """A Box around all that lies on or between the two lines of a ReLU, wherever z is in `box`."""
    xp, (l, u), model = namespace(box.centre), box.ends, Model(box.centre.dtype)
    least = most = line.a_lo
    if line.a_lo.ndim == 3:  # each margin has its own
        least, most = xp.min(line.a_lo, axis=0), xp.max(line.a_lo, axis=0)
    low = xp.minimum(xp.minimum(least * l, most * l), line.a_up * l + line.b_up)
    high = xp.maximum(xp.maximum(least * u, most * u), line.a_up * u + line.b_up)
    slack = model.gamma(4) * (box.most + line.b_up) + model.least
    return box_between(low - slack, high + slack)


def box_between(l, u):
    """A Box around [l, u]."""
    c = (l + u) / 2
    return Box(c, namespace(l).maximum(u - c, c - l) * (1 + Model(c.dtype).gamma(4)))


def box_of(ball, dtype):
    """A Box of that dtype around the ball of the very x and ε."""
    x, eps = as_rows(ball.x, np.float64), as_rows(ball.eps, np.float64)
    xp = namespace(x)
    low, high = xp.nextafter(x - eps, -np.inf), xp.nextafter(x + eps, np.inf)
    if ball.domain is not None:
        low, high = xp.maximum(low, ball.domain[0]), xp.minimum(high, ball.domain[1])
    l, u = low.astype(dtype), high.astype(dtype)
    return box_between(xp.where(l > low, xp.nextafter(l, -np.inf), l), xp.where(u < high, xp.nextafter(u, np.inf), u))


def rounded_lines(l, u, slope):
    """Lines that enclose max(z, 0) over [l, u] in real arithmetic: the slopes are floats, b̄ is rounded up."""
    xp, model, (a, _), m = namespace(l), Model(l.dtype), chord(l, u), ((l < 0) & (u > 0)).astype(l.dtype)  # unstable
    b = xp.maximum(-a * xp.minimum(l, 0), (1 - a) * xp.maximum(u, 0))  # the line is above both corners
    return Lines(xp.where(m > 0, xp.clip(slope, 0, 1), a), a, b * (1 + model.gamma(4)) + m * model.least, False)


# ---- backward ----

def backward(net, C, lines, boxes, start):
    """s (S, N): Definition 1 back to the Box at layer `start`, with every charge."""
    g, k, model, terms = C, len(lines), Model(net.dtype), []
    for i in reversed(range(start, len(net.layers))):
        layer, xp, most = net.layers[i], namespace(g), boxes[i].most
        if isinstance(layer, Affine):
            W, bias = net.params[f"{i}.weight"], layer.per_unit(net.params[f"{i}.bias"])
            K, B, n = adjoint_terms(layer), dot_terms(net.units[i + 1]), W.size
            lost = model.gamma(K) * product(layer, xp.abs(W), most) + model.gamma(B) * xp.abs(bias) + n * model.least
            terms += [dot(bias, g), dot(lost, xp.abs(g))]
            g = layer.adjoint(W, g)
        elif isinstance(layer, ReLU):
            k, n = k - 1, 1
            a_lo, a_up, b_up, _ = lines[k]
            positive = xp.maximum(g, 0)
            g, B = a_lo * (g - positive) + a_up * positive, dot_terms(net.units[i])
            terms += [dot(b_up * (1 + model.gamma(B + 4)), positive), dot(model.gamma(2) * most, xp.abs(g))]
        else:
            g = layer.restore(g)
            continue
        # underflow of the n products in an entry of g, or fewer, and in dot
        terms.append(n * model.least * (net.units[i] + net.units[i + 1] + most.sum(1)))
    (c, r), n = boxes[start], dot_terms(net.units[start])
    r = r + (model.gamma(n + 4) * (abs(c) + 2 * r) + model.least)
    terms += [dot(c, g), dot(r, abs(g))]  # (2)
    return sum(terms) + model.gamma(len(terms) + 4) * sum(abs(term) for term in terms)


# ---- sums, and how many roundings a term of them meets ----

def dot(w, g):
    """Σ_n w g in two stages: far fewer roundings than n. (N, n) or (n,), (S, N, n) -> (S, N)."""
    p = parts(g.shape[-1])
    w, g = w.reshape(-1, p, g.shape[-1] // p), g.reshape(*g.shape[:2], p, -1)
    return (w * g).sum(-1).sum(-1)


def dot_terms(n):
    """The most roundings that a product of n terms meets in two stages."""
    return parts(n) + n // parts(n) - 1


def product(layer, W, x):
    """A(W, x), where dense in the same two stages: (N, n) -> (N, m)."""
    if isinstance(layer, Conv2d):
        return layer.apply(W, layer.patches(x))
    p = parts(x.shape[1])
    return (x.reshape(len(x), p, -1).swapaxes(0, 1) @ W.reshape(len(W), p, -1).transpose((1, 2, 0))).sum(0)


def product_terms(layer):
    """The most roundings that a product in A(W, x) meets; a convolution sums a row of its kernel, then the rows."""
    if not isinstance(layer, Conv2d):
        return dot_terms(layer.units)
    C, (rows, columns) = layer.in_channels, layer.kernel_size
    return C * rows * columns if layer.thin else C * columns + rows - 1


def adjoint_terms(layer):
    """The most roundings that a product in Aᵀ(W, g) meets; an input is seen by k / s rows of a kernel."""
    if not isinstance(layer, Conv2d):
        return layer.weight_shape[0]
    O, (rows, columns) = layer.out_channels, (-(-k // s) for k, s in zip(layer.kernel_size, layer.stride))
    return O + rows * columns - 1 if layer.thin else O * columns + rows - 1


def parts(n):
    """p, the largest divisor of n up to √n."""
    return max(p for p in range(1, math.isqrt(n) + 1) if n % p == 0)


class Model:
    """The rounding errors of a dtype."""

    def __init__(self, dtype):
        info = np.finfo(dtype)
        self.unit = float(info.eps) / 2
        self.least = 16 * float(info.tiny)  # more than a few operations lose to underflow

    def gamma(self, n):
        """Somewhat more than γ_n: the charges are themselves computed with roundings, a factor of at most 1 + 1/10."""
        if n * self.unit > 1 / 64:
            raise ValueError(f"net: a sum of {n} terms with a unit roundoff of {self.unit:.0e} has no useful rounding "
                             "bound; expected a wider dtype")
        return 1.125 * n * self.unit
