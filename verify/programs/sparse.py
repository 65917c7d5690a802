"""A network over a ball as sparse rows: what the linear and the mixed-integer programs are made of.

The unknowns are v = [p, h]: p gives the input, h holds the outputs of the unstable ReLUs (l < 0 < u), layer after
layer. An active ReLU (l ≥ 0) is the identity and an inactive one (u ≤ 0) is zero, so that stable units fold away:

    input            x' = X p + x0,   low ≤ p ≤ high,   A p ≤ b
    unstable units   z = Z v + z0,    h = H v
    logits           f = F v + f0

A solver's tolerances are absolute, and it takes entries up to 1e-12 for 0 (or 1e-9, if not told). So an input is given
in units of its radius, every unstable unit in units of its own size, max(−l, u), or of 1e-290 if that is more, for it
has an inverse, and every margin in units of the most that it may be while low ≤ p ≤ high and 0 ≤ h ≤ u: else a small ε,
W t and W' / t, the same function, or a last layer times t, the same verdicts, would be other programs. What a
tolerance in the units may make of a margin is its `gain`: where that is large, as behind a unit that is nearly stable
and that the next layer magnifies, what a solver says is no proof.

Written from the definitions of the layers and of the ball, in float64; no code is shared with refbound's bounds.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from refbound import Ball, Network
from refbound.layers import Conv2d, Linear, ReLU

TOLERANCE, DROPPED = 1e-9, 1e-12  # a solver's, in each row; entries that it takes for 0, in its cuts too


class Inputs(NamedTuple):
    """The ball of one example as a polytope: n inputs, P unknowns."""

    X: object     # (n, P) sparse
    x0: object    # (n,)
    low: object   # (P,)
    high: object  # (P,)
    A: object     # (R, P) sparse: no row for a box, one for l1
    b: object     # (R,)


class Folded(NamedTuple):
    """U unstable units, V = P + U unknowns."""

    inputs: Inputs
    Z: object    # (U, V) sparse
    z0: object   # (U,)
    l: object    # (U,)
    u: object    # (U,)
    F: object    # (c, V) sparse
    f0: object   # (c,)
    units: list  # the indices of each ReLU's unstable units

    @property
    def H(self):
        U, V = self.Z.shape
        return sp.diags_array(np.ones(U), offsets=V - U, shape=(U, V), format="csr")

    def margin(self, m, y):
        """(C (V,), c0, size): z_m − z_y = size (C v + c0); size is the most that |z_m − z_y| may be in the box of v.

        RuntimeError if that is not finite.
        """
        C, c0 = (self.F[[m]] - self.F[[y]]).toarray()[0], self.f0[m] - self.f0[y]
        low, high = (np.concatenate([end, h]) for end, h in ((self.inputs.low, 0 * self.u), (self.inputs.high, self.u)))
        size = max(c0 + np.maximum(C * low, C * high).sum(), -c0 - np.minimum(C * low, C * high).sum()) or 1.0
        if not np.isfinite(size):
            raise RuntimeError(f"the margin of class {m} overflows in its program")
        return C / size, c0 / size, size

    def gain(self, m, y):
        """By how much of its size a margin moves at most if each h does by 1 of its own: Σ g, g = |C_h| + |Z_h|ᵀ g.

        The unit is TOLERANCE; what a solver drops from a row counts as so much more.
        """
        P, whole, Z = len(self.inputs.low), abs(self.margin(m, y)[0]), abs(self.Z)
        g = C = whole[P:]
        for _ in self.units[1:]:  # z has only h of earlier layers: each round, g of one more layer is whole
            g = C + Z[:, P:].T @ g
        small = (Z - Z.multiply(Z > DROPPED)).sum(1)
        return float(g @ (1 + small / TOLERANCE) + whole[whole <= DROPPED].sum() / TOLERANCE)


def fold(net, ball, y, pre):
    """The Folded network, from bounds [(l, u)] of the inputs of its ReLUs, each shaped as that of one example.

    ball is of one example, and y its label. Raises ValueError for an argument that cannot be.
    """
    inputs = polytope(ball)
    check(net, ball, y, pre)
    units = [np.flatnonzero((np.asarray(l) < 0) & (np.asarray(u) > 0)) for l, u in pre]
    l, u = (picked([pair[side] for pair in pre], units) for side in (0, 1))
    size, k, at, P = np.maximum(np.maximum(u, -l), 1e-290), 0, 0, len(inputs.low)
    M, c, Z, z0 = widened(inputs.X, P + len(l)), inputs.x0, [sp.csr_array((0, P + len(l)))], [np.zeros(0)]
    for i, layer in enumerate(net.layers):
        if isinstance(layer, (Linear, Conv2d)):
            W = matrix(layer, net.params[f"{i}.weight"], net.shapes[i], net.shapes[i + 1])
            M, c = W @ M, W @ c + np.repeat(net.params[f"{i}.bias"].astype(float), math.prod(net.shapes[i + 1][1:]))
        elif isinstance(layer, ReLU):
            rows, active = units[k], np.ravel(pre[k][0]) >= 0
            new = np.arange(at, at + len(rows))
            Z, z0 = [*Z, sp.diags_array(1 / size[new]) @ M[rows]], [*z0, c[rows] / size[new]]
            h = sp.csr_array((size[new], (rows, P + new)), shape=M.shape)
            M, c, k, at = (sp.diags_array(active.astype(float)) @ M + h).tocsr(), active * c, k + 1, at + len(rows)
    return Folded(inputs, sp.vstack(Z, format="csr"), np.concatenate(z0), l / size, u / size, M.tocsr(), c, units)


def polytope(ball):
    """One example's ball as Inputs: the l∞ box's centre and radius, or for l1 x' = x + ε (d⁺ − d⁻), Σ d⁺ + d⁻ ≤ 1."""
    if not isinstance(ball, Ball) or len(ball) != 1:
        raise ValueError(f"ball: expected a Ball of one example, got {getattr(ball, 'x', ball)!r:.60}")
    n = ball.x.size
    if ball.norm == 1:
        E = sp.diags_array(np.full(n, float(ball.eps[0])), format="csr")
        return Inputs(sp.hstack([E, -E], format="csr"), ball.x.reshape(-1).astype(float),
                      np.zeros(2 * n), np.ones(2 * n), sp.csr_array(np.ones((1, 2 * n))), np.ones(1))
    if ball.norm != np.inf:
        raise ValueError(f"ball: expected one with flat sides, of norm inf or 1, got norm {ball.norm!r}")
    low, high = box(ball)
    return Inputs(sp.diags_array((high - low) / 2, format="csr"), (high + low) / 2, -np.ones(n), np.ones(n),
                  sp.csr_array((0, n)), np.zeros(0))


def box(ball):
    """The ends (n,) of the l∞ ball of one example, cut to its domain, in float64."""
    x, eps = ball.x.reshape(-1).astype(float), ball.eps.reshape(-1).astype(float)  # (n,), (1,) or of a box (n,)
    least, most = (-np.inf, np.inf) if ball.domain is None else ball.domain
    return np.maximum(x - eps, least), np.minimum(x + eps, most)


def matrix(layer, W, inside, outside):
    """An affine layer as a sparse matrix (m, n), from inputs of shape `inside` to outputs of shape `outside`.

    A convolution is a cross-correlation with zero padding (ph, pw) and stride (sh, sw):
        z[o, i, j] = Σ_{c, p, q} W[o, c, p, q] x[c, i sh + p − ph, j sw + q − pw]
    """
    if isinstance(layer, Linear):
        return sp.csr_array(W.astype(float))
    (_, h, w), (_, H, Wd), (sh, sw), (ph, pw) = outside, inside, layer.stride, layer.padding
    o, i, j, c, p, q = np.indices((len(W), h, w, *W.shape[1:]), sparse=True)
    r, s = i * sh + p - ph, j * sw + q - pw
    entries = np.broadcast_arrays((o * h + i) * w + j, (c * H + r) * Wd + s, W[:, None, None].astype(float),
                                  (0 <= r) & (r < H) & (0 <= s) & (s < Wd))
    row, column, value, inner = (entry.ravel() for entry in entries)
    return sp.csr_array((value[inner], (row[inner], column[inner])), shape=(math.prod(outside), math.prod(inside)))


def widened(M, V):
    """M with columns of 0 up to V."""
    return sp.hstack([M, sp.csr_array((M.shape[0], V - M.shape[1]))], format="csr")


def picked(arrays, units):
    """The entries of arrays at the units of each, one after another, in float64."""
    return np.concatenate([np.zeros(0), *(np.ravel(a)[at].astype(float) for a, at in zip(arrays, units))])


def check(net, ball, y, pre):
    """ValueError for an argument that does not fit the network."""
    if not isinstance(net, Network):
        raise ValueError(f"net: expected a Network, got {type(net).__name__}")
    if tuple(ball.x.shape[1:]) != net.input_shape:
        raise ValueError(f"ball: expected an example of shape {net.input_shape}, got {tuple(ball.x.shape[1:])}")
    if np.shape(y) != () or y not in range(net.classes):
        raise ValueError(f"y: expected one label from 0 to {net.classes - 1}, got {y!r}")
    shapes = [net.shapes[i] for i in net.relus]
    if [(np.shape(l), np.shape(u)) for l, u in pre] != [(shape, shape) for shape in shapes]:
        raise ValueError(f"pre: expected (l, u) for each ReLU, of shapes {shapes}, got {[np.shape(l) for l, _ in pre]}")
    for k, (l, u) in enumerate(pre):
        room = 1e-9 * max(np.abs(l).max(), np.abs(u).max())  # for rounding, where they are the better of two methods'
        if not np.all(np.isfinite(l) & np.isfinite(u) & (l <= u + room)):
            raise ValueError(f"pre: expected finite l ≤ u, got others at ReLU {k}")
