"""What the tests compute on: two networks worked by hand, and random ones of every shape the library takes."""

import itertools

import numpy as np

import refbound as rb
from refbound.layers import Conv2d, Flatten, Linear, ReLU

INF = np.inf

# ---- the hand-worked network: x = (0, 0), ε = 1, l∞, not clipped; one example with y = 0 and one with y = 1 ----
#
#   z1 = x1 + x2 + 1   z2 = x1 − x2       h = max(z, 0)
#   z3 = h1 + h2 − 1   z4 = h1 − h2
#   logits  h3 + h4  and  2 h4 + 1,  so  s = h4 − h3 + 1  for y = 0,  s = h3 − h4 − 1  for y = 1
#
# First layer, every method:  z1 ∈ [−1, 3]: ā = 3/4, b̄ = 3/4;   z2 ∈ [−2, 2]: ā = 1/2, b̄ = 1.
#   adaptive slopes: 1 for z1 (3 > 1), 0 for z2 (a tie).
# ibp   h1 ∈ [0, 3], h2 ∈ [0, 2], so z3 ∈ [−1, 4]: ā = 4/5, b̄ = 4/5;   z4 ∈ [−2, 3]: ā = 3/5, b̄ = 6/5.
#   h3 ∈ [0, 4], h4 ∈ [0, 3]:  y = 0: 3 − 0 + 1 = 4;   y = 1: 4 − 0 − 1 = 3.  (Not merged: 7 − 0 = 7 and 7 − 1 = 6.)
# crown-ibp, slopes 1, 0, 1, 1
#   y = 0: −z3 + (3 z4 + 6)/5 + 1 = (−2 h1 − 8 h2 + 16)/5 ≤ (−2 z1 + 16)/5 = (−2 x1 − 2 x2 + 14)/5 ≤ 18/5
#   y = 1: (4 z3 + 4)/5 − z4 − 1 = (−h1 + 9 h2)/5 − 1 ≤ (−z1 + 9 (z2/2 + 1))/5 − 1 = (7 x1 − 11 x2 + 6)/10 ≤ 24/10
# cap-ibp, slopes 3/4, 1/2, 4/5, 3/5
#   y = 0: −4/5 z3 + (3 z4 + 6)/5 + 1 = (−h1 − 7 h2 + 15)/5
#          ≤ (−3/4 z1 − 7/2 z2 + 15)/5 = (−17 x1 + 11 x2 + 57)/20 ≤ 85/20
#   y = 1: (4 z3 + 4)/5 − 3/5 z4 − 1 = (h1 + 7 h2 − 5)/5
#          ≤ (3/4 z1 + 3/4 + 7/2 z2 + 7 − 5)/5 = (17 x1 − 11 x2 + 14)/20 ≤ 42/20
# one-step, a₀ = 1/2 everywhere, η = 2 (so a slope that has a gradient goes to 0 or 1)
#   y = 0: −z3/2 + (3 z4 + 6)/5 + 1 = (h1 − 11 h2 + 27)/10 ≤ (−19 x1 + 25 x2 + 114)/40, worst at x = (−1, 1):
#          z1 = 1, z2 = −2, pushed through the lines h1 = 3/2, h2 = −1, z3 = −1/2.
#          Gradients: a2: −11/10 · −2 > 0, a3: −1 · −1/2 > 0, a1 and a4: 0. So the slopes are 1/2, 0, 0, 1/2:
#          (3 z4 + 6)/5 + 1 = (3 h1 − 3 h2 + 11)/5 ≤ (9 (z1 + 1) + 44)/20 = (9 x1 + 9 x2 + 62)/20 ≤ 80/20
#   y = 1: (4 z3 + 4)/5 − z4/2 − 1 = (3 h1 + 13 h2)/10 − 1, worst at x = (1, −1):
#          z1 = 1, z2 = 2, pushed through the lines h1 = 3/2, h2 = 2, z4 = −1/2.
#          Gradients: a4: −1 · −1/2 > 0, the others 0. With a4 = 0:
#          (4 z3 + 4)/5 − 1 = 4/5 (h1 + h2) − 1 ≤ x1 + x2/5 + 1 ≤ 11/5
# cap   z3 ∈ 5/4 x1 + 1/4 x2 + [−1/4, 3/2] = [−7/4, 3];   z4 ∈ 1/4 x1 + 5/4 x2 + [−1/4, 3/2] = [−7/4, 3]
#   ā = 3 / (19/4) = 12/19, b̄ = 21/19
#   y = 0: 12/19 (z4 − z3) + 21/19 + 1 = (−24 h2 + 52)/19 ≤ (−12 z2 + 52)/19 ≤ (24 + 52)/19 = 4
#   y = 1: 12/19 (z3 − z4) + 21/19 − 1 = (24 h2 − 10)/19 ≤ (12 z2 + 14)/19 ≤ (24 + 14)/19 = 2
# crown z3 ≥ z1 + 0 − 1 = x1 + x2 ≥ −2, z4 ≥ z1 − z2/2 − 1 = (x1 + 3 x2)/2 ≥ −2, both ≤ 3:  ā = 3/5, b̄ = 6/5, slopes 1
#   y = 0: as crown-ibp, 18/5
#   y = 1: (3 z3 + 6)/5 − z4 − 1 = (−2 h1 + 8 h2 − 2)/5 ≤ (−2 z1 + 4 z2 + 6)/5 = (2 x1 − 6 x2 + 4)/5 ≤ 12/5
HAND_SECOND = {"ibp": ([-1, -2], [4, 3]), "cap": ([-1.75, -1.75], [3, 3]), "crown": ([-2, -2], [3, 3])}  # z3, z4
HAND_MARGINS = {"ibp": (4, 3), "crown-ibp": (3.6, 2.4), "cap-ibp": (4.25, 2.1), "one-step": (4, 2.2), "cap": (4, 2),
                "crown": (3.6, 2.4)}  # for y = 0, 1


def hand():
    """The network above, its ball and labels."""
    params = {"0.weight": [[1, 1], [1, -1]], "0.bias": [1, 0], "2.weight": [[1, 1], [1, -1]], "2.bias": [-1, 0],
              "4.weight": [[1, 1], [0, 2]], "4.bias": [0, 1]}
    layers = [Linear(2, 2), ReLU(), Linear(2, 2), ReLU(), Linear(2, 2)]
    net = rb.Network(layers, {name: np.array(value, float) for name, value in params.items()}, (2,))
    return net, rb.Ball(np.zeros((2, 2)), 1.0, domain=None), np.array([0, 1])


# ---- the one-unit network: z = x, logits h and 1 − h, so s = 1 − 2 h for y = 0 and 2 h − 1 for y = 1; ε = 2 ----
#
# x = 1:   z ∈ [−1, 3], ā = b̄ = 3/4, h ∈ [0, 3], adaptive slope 1.      2 h − 1 ≤ 2 · 3 − 1 = 5 by every method
#   1 − 2 h ≤ 1 − 2 a̲ z ≤ 1 + 2 a̲:       ibp 1,  crown 1 + 2 = 3,  cap 1 + 3/2 = 5/2
# x = −1:  z ∈ [−3, 1], ā = 1/4, b̄ = 3/4, h ∈ [0, 1], adaptive slope 0.  2 h − 1 ≤ 1 by every method
#   1 − 2 h ≤ 1 − 2 a̲ z ≤ 1 + 6 a̲:       ibp 1,  crown 1,          cap 1 + 6/4 = 5/2
UNIT_MARGINS = {"ibp": (1, 5, 1, 1), "crown-ibp": (3, 5, 1, 1), "crown": (3, 5, 1, 1), "cap-ibp": (2.5, 5, 2.5, 1),
                "cap": (2.5, 5, 2.5, 1)}  # for (x, y) = (1, 0), (1, 1), (−1, 0), (−1, 1)


def unit():
    """The one-unit network, its ball and labels."""
    params = {"0.weight": [[1]], "0.bias": [0], "2.weight": [[1], [-1]], "2.bias": [0, 1]}
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 2)], {k: np.array(v, float) for k, v in params.items()}, (1,))
    return net, rb.Ball(np.array([[1.0], [1.0], [-1.0], [-1.0]]), 2.0, domain=None), np.array([0, 1, 0, 1])


# ---- random networks: name -> (layers, input shape) ----

DENSE = {"dense": ([Linear(6, 8), ReLU(), Linear(8, 7), ReLU(), Linear(7, 4)], (6,))}
CONV = {
    "stride 1, 2, padding 1": ([Conv2d(1, 3, 3, 1, 1), ReLU(), Conv2d(3, 4, 4, 2, 1), ReLU(),  # misses some padding
                                Flatten(), Linear(16, 7), ReLU(), Linear(7, 4)], (1, 5, 5)),
    "stride 2, 1, padding 0": ([Conv2d(2, 3, 3, 2, 0), ReLU(), Conv2d(3, 4, 2, 1, 0), ReLU(),
                                Flatten(), Linear(16, 4)], (2, 7, 7)),
    "rectangular": ([Conv2d(1, 3, (2, 3), (1, 2), (0, 1)), ReLU(), Conv2d(3, 2, (3, 1), (2, 1), (1, 0)), ReLU(),
                     Flatten(), Linear(12, 3)], (1, 4, 5)),
    "stride does not tile": ([Conv2d(1, 3, 2, 2, 0), ReLU(), Flatten(), Linear(12, 5), ReLU(),
                              Linear(5, 3)], (1, 5, 5)),
}
ODD = {
    "affine after affine": ([Linear(5, 6), Linear(6, 6), ReLU(), Linear(6, 5), Linear(5, 3)], (5,)),
    "convolution after convolution": ([Conv2d(2, 2, 1), Conv2d(2, 3, 3, 1, 1), ReLU(), Conv2d(3, 2, 3, 2, 1),
                                       Conv2d(2, 2, 2, 1, 1), ReLU(), Flatten(), Linear(18, 3)], (2, 4, 4)),
    "ReLU on the input": ([ReLU(), Flatten(), Linear(6, 6), ReLU(), Linear(6, 3)], (1, 2, 3)),
    "ReLU after ReLU": ([Linear(5, 6), ReLU(), ReLU(), Linear(6, 6), ReLU(), Linear(6, 3)], (5,)),
    "no ReLU": ([Linear(5, 6), Linear(6, 3)], (5,)),
    "ReLU at the end": ([Linear(5, 6), ReLU(), Linear(6, 3), ReLU()], (5,)),
    "one ReLU, on the input": ([ReLU(), Linear(5, 3)], (5,)),
}
ALL = {**DENSE, **CONV, **ODD}

# name -> (norm, ε, clipped to [0, 1]): radii at which some units of most networks are stable and some are not
BALLS = {"inf": (INF, 0.15, True), "inf, not clipped": (INF, 0.15, False), "l2": (2, 0.4, False), "l1": (1, 0.8, False),
         "inf, an ε for each pixel": (INF, 0.3, True)}  # from 0 to this


def build(name, seed=0, dtype=np.float64):
    """A network of ALL with random parameters."""
    layers, shape = ALL[name]
    return rb.models.initialise(np.random.default_rng(seed), layers, shape, dtype)


def batch(net, ball="inf", N=3, seed=1, eps=None):
    """A ball of BALLS around N random inputs (near 0 and 1 too, where clipping bites), and random labels."""
    rng, (norm, radius, clipped) = np.random.default_rng(seed), BALLS[ball]
    x, y = (rng.uniform(0 if clipped else -0.6, 1, (N, *net.input_shape)).astype(net.dtype),
            rng.integers(0, net.classes, N))
    if eps is None:
        eps = radius * rng.choice([0, 1], x.shape) * rng.random(x.shape) if "pixel" in ball else radius
    return rb.Ball(x, eps, norm=norm, domain=(0.0, 1.0) if clipped else None), y


def draws(seed=2):
    """What methods draw from, where they draw: the same for every call."""
    return np.random.default_rng(seed)


METHODS = {name: (name, {}) for name in rb.METHODS}  # variant -> (method, options)
METHODS["alpha"] = ("alpha", {"steps": 5})
METHODS["alpha, own slopes"] = ("alpha", {"steps": 5, "shared": False})
METHODS["sparse 0, 1"] = ("sparse", {"p": 0.0, "q": 1.0})
TRAINED = {variant: row for variant, row in METHODS.items() if row[0] != "alpha"}


# ---- points of a ball ----

def inside(x, ball, room=1e-12):
    """Whether the points (N, ...) lie in the ball, whatever its domain."""
    if ball.norm == np.inf:
        return (abs(x - ball.x).reshape(len(x), -1) <= ball.eps.reshape(len(x), -1) + room).all()
    return (length(x - ball.x, ball.norm) <= ball.eps + room).all()


def extent(ball):
    """The least and greatest value of each input over the ball."""
    eps = ball.eps if ball.eps.shape == ball.x.shape else ball.eps.reshape(-1, *[1] * (ball.x.ndim - 1))
    low, high = ball.x - eps, ball.x + eps
    return (low, high) if ball.domain is None else (np.maximum(low, ball.domain[0]), np.minimum(high, ball.domain[1]))


def length(v, norm):
    """‖v‖ of each example of (N, ...)."""
    return np.linalg.norm(v.reshape(len(v), -1), ord=norm, axis=1)


def points(ball, rng, count=60):
    """Points of the ball, (N, ...) each: half inside, half extreme, and all vertices of a box of up to 6 inputs."""
    low, high = extent(ball)
    shape, n = ball.x.shape, ball.x[0].size
    for k in range(count):
        if ball.norm == np.inf:
            at = rng.random(shape) if k % 2 else rng.integers(0, 2, shape)
            yield low + at * (high - low)
        else:
            way = rng.normal(size=shape) * (rng.random(shape) < rng.choice([1 / n, 0.5, 1]))
            way *= (ball.eps / np.maximum(length(way, ball.norm), 1e-12)).reshape(-1, *[1] * (len(shape) - 1))
            yield ball.x + way * (rng.random() if k % 2 else 1)
    if ball.norm == np.inf and n <= 6:
        for at in itertools.product([0, 1], repeat=n):
            yield low + np.array(at).reshape(shape[1:]) * (high - low)
    if ball.norm == 1:
        for i, sign in itertools.product(range(n), [-1, 1]):
            yield ball.x + sign * ball.eps.reshape(-1, *[1] * (len(shape) - 1)) * np.eye(n)[i].reshape(shape[1:])


def margins(z, y):
    """z_m − z_y, (N, c)."""
    return z - np.take_along_axis(z, y[:, None], 1)
