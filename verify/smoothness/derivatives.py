"""The gradients of g and b in the parameters, for each margin of each example: what (6) is made of.

Definition 1 gives s̄ = g·x* + b, x* the worst case (2). Its gradient in the parameters θ is that at fixed x* (Danskin):

    ∇s̄ = D(x*),    D(x) = ∇_θ (g·x + b) = (∇g)ᵀ x + ∇b

with the lines and all they depend on, l and u, included. D is linear in (x, 1): D(0) = ∇b, D(e_i) − D(0) is row i of
∇g. `ibp`'s constant lines leave g = 0 and b = s̄. Lower slopes that are not parallel are constants, as in training.
"""

from typing import NamedTuple

import numpy as np

import refbound as rb
from refbound.arrays.ops import with_true_class
from refbound.checks import method_options
from refbound.layers import add


class Case(NamedTuple):
    """What stays as it is while parameters and ε move."""

    y: object      # (N,)
    method: str
    options: dict  # what the method draws among them


class Derivatives(NamedTuple):
    """Of the margins of a batch, in P parameters; 0 in column y."""

    g: object  # ∇g (N, c, n, P)
    b: object  # ∇b (N, c, P)
    s: object  # ∇s̄ (N, c, P)
    p: object  # the softmax of s̄ (N, c), itself


class Point(NamedTuple):
    """The margins of a batch at some parameters, and how to differentiate them."""

    net: object
    row: object      # of rb.METHODS
    region: object
    found: object    # where l and u come from
    margins: object

    def D(self, m, k, x):
        """D(x) (P,) of margin m of example k; x (n,)."""
        ds, worst = np.zeros_like(self.margins.s), np.zeros_like(self.margins.worst)
        ds[m, k], worst[m, k] = 1, x
        grads, dpre = self.row.margins_vjp(ds, self.net, self.margins._replace(worst=worst))
        return flat(self.net, add(grads, self.row.preactivation_vjp(dpre, self.net, self.found)))

    def worst(self, m, k):
        """x* (n,); of constant lines a point of the last box."""
        return self.margins.worst[m, k]

    def parts(self, m, k):
        """∇g (n, P) and ∇b (P,)."""
        if self.row.slopes is None:
            b = self.D(m, k, self.worst(m, k))
            return np.zeros((self.net.units[0], len(b))), b
        b = self.D(m, k, np.zeros(self.net.units[0]))
        return np.array([self.D(m, k, e) - b for e in np.eye(self.net.units[0])]), b


def point(net, ball, case):
    """The Point of a batch."""
    row, region = rb.METHODS[case.method], ball.region(net.dtype)
    options = method_options(net, ball, case.method, case.options)
    return Point(net, row, region, row.preactivation(net, region, options), row.bound(net, region, case.y, options))


def derivatives(net, ball, case):
    """The Derivatives of a batch."""
    at = point(net, ball, case)
    S, N = at.margins.s.shape
    found = [[at.parts(m, k) for k in range(N)] for m in range(S)]
    g, b = (np.array([[pair[i] for pair in line] for line in found]) for i in (0, 1))
    s = b if at.row.slopes is None else b + np.einsum("sNnP,sNn->sNP", g, at.margins.worst)  # Danskin
    g, b, s, margins = (with_true_class(v, case.y) for v in (g, b, s, at.margins.s))
    p = np.exp(margins - margins.max(1, keepdims=True))
    return Derivatives(g, b, s, p / p.sum(1, keepdims=True))


def loss(net, ball, case):
    """L^ε and its gradient (P,)."""
    found = rb.robust_loss(net, ball, case.y, case.method, **case.options)
    return found.value, flat(net, found.grads)


def flat(net, arrays):
    """A dict named as the parameters, as one vector (P,)."""
    return np.concatenate([np.ravel(arrays[name]) for name in net.params])


def moved(net, step):
    """The network at θ + step (P,)."""
    ends = np.cumsum([w.size for w in net.params.values()])[:-1]
    return net.with_params({name: w + d.reshape(w.shape)
                            for (name, w), d in zip(net.params.items(), np.split(step, ends))})


def norm(v):
    """‖v‖₂ of a vector, ‖v‖_F of a matrix."""
    return float(np.linalg.norm(v))
