"""The rounding-sound bound is never below what exact rational arithmetic says, and barely above the plain one."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from networks import ALL, batch, build, draws
from rationals import definition_1, exact, exact_margins, matrix

import refbound as rb
from refbound import rounding
from refbound.arrays.ops import as_rows, keeps_subnormals
from refbound.layers import Affine, Conv2d, Linear, ReLU
from refbound.rounding import sound_margin_bounds

METHODS = {name: {} for name, method in rb.METHODS.items() if method.bounds is rb.METHODS["ibp"].bounds}
METHODS["alpha"] = {"steps": 3}
VARIANTS = [*METHODS.items(), ("alpha", {"steps": 3, "shared": False})]


UNIT, TINY = 2.0**-24, 1e-9  # of the arithmetic of Worst: float64's own errors are nothing beside them


class Worst(np.ndarray):
    """Numbers whose every rounding is as large as the model allows: |δ| = UNIT, and a product's |η| = TINY, by `way`.

    What floating point does exactly is exact: sums with 0, products with 0, ±½, ±1, ±2, halves, and z / z.
    """

    way = None  # results -> the signs of their errors

    def __array_ufunc__(self, ufunc, method, *given, **more):
        a, *b = (np.asarray(v) for v in given)
        if into := more.pop("out", None):
            into[0].view(np.ndarray)[...] = self.__array_ufunc__(ufunc, method, a, *b, **more)
            return into[0]
        result, size, least = getattr(ufunc, method)(a, *b, **more), 0.0, 0.0
        if ufunc is np.matmul:
            size, least = a.shape[-1] * (abs(a) @ abs(b[0])), a.shape[-1]
        elif ufunc is np.add and method == "reduce":
            size = (a.shape[more["axis"]] - 1) * abs(a).sum(more["axis"])
        elif ufunc in (np.add, np.subtract):
            size = abs(result) * (a != 0) * (b[0] != 0)
        elif ufunc in (np.multiply, np.divide):
            simple = (0, 0.5, 1, 2) if ufunc is np.multiply else (0,)
            least = ~np.isin(abs(b[0]), (0, 0.5, 1, 2)) & ~np.isin(abs(a), simple) & (result != 1)
            size = abs(result) * least
        elif ufunc is np.nextafter:
            return (a + 2 * UNIT * abs(a) * np.sign(b[0])).view(Worst)
        if result.dtype != float:
            return result
        return (result + Worst.way(result) * (UNIT * size + TINY * least)).view(Worst)


    def __array_function__(self, func, types, given, more):
        result = super().__array_function__(func, types, given, more)
        return result.view(Worst) if func is np.concatenate else result  # which returns an ordinary array


class Coarse(rounding.Model):
    """The model that Worst is the worst case of."""

    def __init__(self, dtype):
        self.unit, self.least = UNIT, 16 * TINY


WAYS = {"down": lambda z: -1.0, "up": lambda z: 1.0, "to 0": lambda z: -np.sign(z), "from 0": np.sign}


def worst(way, monkeypatch):
    """What makes numbers of the worst arithmetic, now that the bound counts with its model."""
    monkeypatch.setattr(rounding, "Model", Coarse)
    monkeypatch.setattr(Worst, "way", staticmethod(WAYS[way]))
    return lambda value: value.view(Worst)


@pytest.fixture(params=["float32", "float64", *WAYS])
def arithmetic(request, monkeypatch):
    """(dtype, what makes numbers of it): of real arithmetics, and of the worst ones."""
    if request.param in WAYS:
        return np.float64, worst(request.param, monkeypatch)
    return np.dtype(request.param).type, np.asarray


def wild(net, seed):
    """The same network with weights over 2^-20 ... 2^20, each unit a near copy of another, so that sums cancel."""
    rng, params = np.random.default_rng(seed), {}
    for name, value in net.params.items():
        value = value * np.exp2(rng.integers(-20, 21, value.shape))
        half = len(value) // 2
        value[half:2 * half] = -value[:half] * (1 + 2.0**-18 * rng.normal(size=value[:half].shape))
        params[name] = value.astype(net.dtype)
    return net.with_params(params)


def problems(dtype):
    """Networks, a tame and a wild one of each, with balls clipped and not, and with an ε for each pixel."""
    for seed, name in enumerate(ALL):
        for net in (build(name, seed, dtype), wild(build(name, seed, dtype), seed)):
            yield net, *batch(net, ("inf", "inf, not clipped", "inf, an ε for each pixel")[seed % 3], seed=seed, N=1)


def box_ends(ball):
    """The ball around the very x and ε, (N, n) rationals."""
    x, eps = exact(as_rows(ball.x, ball.x.dtype)), exact(as_rows(ball.eps, ball.eps.dtype))
    low, high = x - eps, x + eps
    return (low, high) if ball.domain is None else (np.maximum(low, Fraction(0)), np.minimum(high, Fraction(1)))


def intervals(net, low, high):
    """The exact interval bounds (l, u) of each ReLU."""
    pre = []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Affine):
            W, bias = matrix(net, i)
            P, M = np.maximum(W, Fraction(0)), np.minimum(W, Fraction(0))
            low, high = low @ P.T + high @ M.T + bias, high @ P.T + low @ M.T + bias
        elif isinstance(layer, ReLU):
            pre.append((low, high))
            low, high = np.maximum(low, Fraction(0)), np.maximum(high, Fraction(0))
        else:
            low, high = layer.reorder(low), layer.reorder(high)
    return pre


def others(s, y):
    """(N, c) without the column y, as (S, N) rationals."""
    return exact(np.array([np.delete(row, label) for row, label in zip(s, y)]).T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method, options", VARIANTS)
def test_never_below_exact_definition_1_nor_the_margins_of_any_point(method, options, dtype, monkeypatch):
    used, backward = {}, rounding.backward
    monkeypatch.setattr(rounding, "backward", lambda *args: used.update(args=args) or backward(*args))
    for net, ball, y in problems(dtype):
        s = others(sound_margin_bounds(net, ball, y, method, rng=draws(), **options), y)
        (_, _, lines, boxes, start), (low, high) = used["args"], box_ends(ball)
        c, r = exact(boxes[start].centre), exact(boxes[start].radius)
        if start == 0:
            assert (c - r <= low).all() and (high <= c + r).all()
        assert (definition_1(net, y, lines, start, c - r, c + r) <= s).all()
        rng = np.random.default_rng(0)
        for at in (rng.random(low.shape), *rng.integers(0, 2, (3, *low.shape)).astype(float)):
            assert (exact_margins(net, low + exact(at) * (high - low), y) <= s).all()


def test_lines_enclose_relu_over_the_exact_intervals(arithmetic, monkeypatch):
    used, enclose, (dtype, of) = [], rounding.rounded_lines, arithmetic
    monkeypatch.setattr(rounding, "rounded_lines", lambda l, u, a: used.append((l, u, enclose(l, u, a))) or used[-1][2])
    for net, ball, y in problems(dtype):
        used.clear()
        here = net.with_params({name: of(value) for name, value in net.params.items()})
        sound_margin_bounds(here, ball, y, "random", rng=draws())
        for (l, u, lines), (low, high) in zip(used, intervals(net, *box_ends(ball)), strict=True):
            assert (exact(l) <= low).all() and (high <= exact(u)).all()
            a_lo, a_up, b_up = map(exact, lines[:3])
            for z in (exact(l), exact(u), np.clip(Fraction(0), exact(l), exact(u))):  # both sides convex between these
                assert (a_lo * z <= np.maximum(z, Fraction(0))).all()
                assert (np.maximum(z, Fraction(0)) <= a_up * z + b_up).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_takes_no_bound_and_no_margin_further_than_the_allowance(dtype):
    """At ε = 0, where bounds meet margins: by every method some lie below the exact ones, none by more than τ."""
    below = dict.fromkeys(rb.METHODS, 0)
    for net, ball, y in problems(dtype):
        least, z, x = exact_margins(net, exact(as_rows(ball.x, dtype)), y), net(ball.x), as_rows(ball.x, dtype)
        assert (abs(least - others(z - z[0, y], y)) <= others(rounding.margin_rounding(net, abs(x), y), y)).all()
        for norm in (np.inf, 2, 1):
            ball = rb.Ball(ball.x, 0.0, norm=norm, domain=None)
            most = others(rounding.rounding_allowance(net, ball, y), y)
            for method in rb.METHODS:
                s = others(rb.margin_bounds(net, ball, y, method, rng=draws()), y)
                assert (least - s <= most).all()
                below[method] += (least > s).sum()
    assert all(below.values()), below


def test_the_allowance_is_small_in_float64():
    net = rb.models.small(draws(), dtype=np.float64)
    ball, y = rb.Ball(draws().random((4, 1, 28, 28)), 0.1), np.arange(4)
    assert (rounding.rounding_allowance(net, ball, y) < 1e-6 * abs(rb.margin_bounds(net, ball, y, "ibp")).max()).all()


def test_a_bound_negative_only_by_rounding_is_not_certified():
    caught = 0
    for seed in range(40):
        net = rb.models.mlp(np.random.default_rng(seed), (5, 8, 2))
        ball, y = rb.Ball(draws().random((1, 5), np.float32), 0.01), np.array([0])
        exactly = max(exact_margins(net, end, y)[0, 0] for end in corners(*box_ends(ball)))
        for step in range(-8, 9):  # the last bias brings the worst corner to about 0, where float32 may say less
            bias = net.params["2.bias"].copy()
            bias[1] += np.float32(step / 2**26 - exactly)
            worst = exactly + Fraction(float(bias[1])) - Fraction(float(net.params["2.bias"][1]))
            shifted = net.with_params({**net.params, "2.bias": bias})
            by_float, soundly = (bool(rb.certified(bounds(shifted, ball, y, "crown-ibp"), y)[0])
                                 for bounds in (rb.margin_bounds, sound_margin_bounds))
            assert worst < 0 or not soundly
            caught += by_float and worst >= 0
    assert caught > 0, "float32 certified no ball that is not robust"


def corners(low, high):
    """The vertices of a box of one example, (1, n)."""
    for bits in np.ndindex(*[2] * low.shape[1]):
        yield np.where(np.array([bits]) == 1, high, low)


@pytest.mark.parametrize("cancels", ["weight", "bias"])
@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_sums_that_cancel_are_covered(method, cancels):
    """A margin v·w (or v·bias) near 0 that is the sum of 1000 large products."""
    for seed in range(10):
        n, rng = 1000, np.random.default_rng(seed)
        params = {"0.weight": np.ones((n, 1)), "0.bias": np.zeros(n),
                  "1.weight": np.zeros((2, n)), "1.bias": np.zeros(2)}
        large, v = params[f"0.{cancels}"].reshape(-1), params["1.weight"][1]
        large[:], v[:] = 1e3 * rng.random(n), 1e3 * rng.random(n) * np.sign(n / 2 - np.arange(n))
        v[-1] = -(v[:-1] @ large[:-1]) / large[-1]
        net = rb.Network([Linear(1, n), Linear(n, 2)], {k: p.astype(np.float32) for k, p in params.items()}, (1,))
        x, y = np.full((1, 1), 2.0**-10, np.float32), np.array([0])
        s = sound_margin_bounds(net, rb.Ball(x, 0.0), y, method)[0, 1]
        assert exact_margins(net, exact(x), y)[0, 0] <= Fraction(float(s))


WIDTHS = [(3, 12, 4, 3), (20, 3, 3, 3), (2, 4, 20, 3), (1, 13, 3)]
SCALES = [(1, 1), (1, 1e3), (1e3, 1), (1e-4, 1e-4), (1e-2, 1e3)]  # of weights, and of biases


@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
@pytest.mark.parametrize("way", WAYS)
def test_the_bound_holds_in_the_worst_arithmetic_of_its_model(way, method, monkeypatch):
    """Real errors are far smaller, and show no charge that is missing."""
    used, backward, of = {}, rounding.backward, worst(way, monkeypatch)
    monkeypatch.setattr(rounding, "backward", lambda *args: used.update(args=args) or backward(*args))
    for seed, (widths, (weight, bias)) in enumerate(itertools.product(WIDTHS, SCALES)):
        net = rb.models.mlp(draws(seed), widths, dtype=np.float64)
        for name in net.params:
            net.params[name] = of((weight if "weight" in name else bias) * net.params[name])
        ball, y = rb.Ball(draws(seed).random((2, widths[0])), 0.1), np.array([0, 1])
        s = others(sound_margin_bounds(net, ball, y, method), y)
        (_, _, lines, boxes, start), (low, high) = used["args"], box_ends(ball)
        plain = net.with_params({name: np.asarray(value) for name, value in net.params.items()})
        c, r = exact(np.asarray(boxes[start].centre)), exact(np.asarray(boxes[start].radius))
        assert (definition_1(plain, y, lines, start, c - r, c + r) <= s).all()
        for at in draws().integers(0, 2, (3, *low.shape)).astype(float):
            assert (exact_margins(plain, low + exact(at) * (high - low), y) <= s).all()


def test_each_step_forward_contains_the_exact_one(arithmetic):
    rng, (dtype, of) = np.random.default_rng(0), arithmetic
    for net, ball, _ in problems(dtype):
        for small in (ball, rb.Ball(ball.x, 1e-12, domain=ball.domain)):
            assert_within(*box_ends(small), rounding.box_of(small, net.dtype))
        for i, layer in net.affine:
            c = rng.normal(size=(2, layer.units)).astype(dtype)
            r = np.abs(rng.normal(size=c.shape)).astype(dtype) * np.array([[0], [1e-3]], dtype)
            (W, bias), box = matrix(net, i), rounding.Box(of(c), of(r))
            z, spread = exact(c) @ W.T + bias, exact(r) @ abs(W).T
            assert_within(z - spread, z + spread, rounding.affine_box(net, i, box))
    for scale in (1, 1e-7, 1e-30):
        c, r = rng.normal(size=(2, 50, 20)).astype(dtype)
        box = rounding.Box(of(c), of(np.abs(r) * dtype(scale)))
        l, u = box.ends
        assert ((exact(l) <= exact(box.centre) - exact(box.radius)).all()
                and (exact(box.centre) + exact(box.radius) <= exact(u)).all())
        line = rounding.rounded_lines(l, u, rng.random((4, 50, 20)).astype(dtype))
        ends = [exact(a) * exact(z) + b for a, b in ((line.a_lo, 0), (line.a_up, exact(line.b_up))) for z in (l, u)]
        ends = [end.min(0) for end in ends[:2]] + [end.max(0) for end in ends[:2]] + ends[2:]
        assert_within(np.minimum.reduce(ends), np.maximum.reduce(ends), rounding.between(line, box))


@pytest.mark.parametrize("layer", [
    Linear(12, 5), Linear(7, 3),
    *(Conv2d(C, 5, (5, 3), s, p) for C in (3, 9) for s in (1, 2, 3) for p in (0, 2))], ids=str)
def test_no_sum_meets_more_roundings_than_are_counted_nor_fewer(layer, monkeypatch):
    """Of positive numbers, each rounded up, one entry of a kernel far above the rest: that which is summed first."""
    of, conv = worst("up", monkeypatch), isinstance(layer, Conv2d)
    layer, out = layer.at((layer.in_channels, 13, 11) if conv else (layer.units,))
    W, x, g = (1 + draws().random(s) for s in (layer.weight_shape, (2, layer.units), (2, 2, int(np.prod(out)))))
    met = []
    for entry in np.ndindex(layer.kernel_size) if conv else [()]:
        V = W.copy()
        V[(slice(None), slice(None), *entry)] *= 1e6
        real, rounded = ((rounding.product(layer, v(V), v(x)), layer.adjoint(v(V), v(g))) for v in (np.asarray, of))
        met.append([((np.asarray(b) - a)[a > 0] / a[a > 0]).max() / UNIT for a, b in zip(real, rounded)])
    counted = rounding.product_terms(layer), rounding.adjoint_terms(layer)
    np.testing.assert_allclose(np.max(met, 0), counted, rtol=0.01)


def test_arithmetic_that_flushes_subnormals_is_refused(monkeypatch):
    assert keeps_subnormals(np, np.float32) and keeps_subnormals(np, np.float64)
    monkeypatch.setattr(rounding, "keeps_subnormals", lambda xp, dtype: False)
    with pytest.raises(ValueError, match="flushes them to zero"):
        sound_margin_bounds(build("dense"), *batch(build("dense")), "ibp")


def assert_within(low, high, box):
    """[low, high], rationals, lies in the Box."""
    c, r = exact(box.centre), exact(box.radius)
    assert (c - r <= low).all() and (high <= c + r).all()


@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_the_widening_is_small(method):
    net = rb.models.small(draws())
    x, y = draws().random((4, 1, 28, 28), np.float32), np.arange(4)
    ball = rb.Ball(x, 0.1)
    plain, sound = rb.margin_bounds(net, ball, y, method), sound_margin_bounds(net, ball, y, method)
    assert (sound - plain <= 3e-4 * np.abs(plain).max()).all() and (plain <= sound).all()
    assert sound.dtype == np.float32 and sound.shape == plain.shape and (sound[np.arange(4), y] == 0).all()


def test_float32_is_refused_on_a_device(device):
    net = rb.models.mlp(draws(), (6, 4))
    there = net.with_params({k: device.asarray(v) for k, v in net.params.items()})
    ball = rb.Ball(device.asarray(np.full((1, 6), 0.5, np.float32)), 0.1)
    with pytest.raises(ValueError, match="net: expected .* as float64 on a GPU, got float32, which flushes"):
        sound_margin_bounds(there, ball, device.asarray(np.array([0])), "ibp")


def test_what_it_cannot_bound_is_refused_in_one_line():
    net, (ball, y) = build("dense"), batch(build("dense"))
    with pytest.raises(ValueError, match="method: expected one of ibp, crown-ibp, .* got 'cap'"):
        sound_margin_bounds(net, ball, y, "cap")
    with pytest.raises(ValueError, match="norm inf, got 'ibp' and norm 2"):
        sound_margin_bounds(net, batch(net, "l2")[0], y, "ibp")
    with pytest.raises(ValueError, match="steps: not an option of 'ibp'"):
        sound_margin_bounds(net, ball, y, "ibp", steps=3)
    with pytest.raises(ValueError, match="net: a sum of .* terms .* expected a wider dtype"):
        wide = rb.models.mlp(draws(), (262147, 2))  # a prime number of inputs: a sum in one stage
        sound_margin_bounds(wide, rb.Ball(np.full((1, 262147), 0.5, np.float32), 0.1), np.array([0]), "ibp")
