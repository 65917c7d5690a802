"""Certificates: proved in exact arithmetic, rejected if a bit is flipped, never proved where only rounding says so."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from networks import ALL, build
from rationals import definition_1, exact_margins
from rationals import exact as rational  # exact is the prover's
from test_lp import last_layer_times

import refbound as rb
from refbound.layers import Linear, ReLU
from refbound.arrays.ops import as_rows, images, rows
from refbound.layers import forward
from trainers.data import to_float
from verify.certificate import MAKERS, make
from verify.prover import claims, exact, integers
from verify.prover.claims import Rejected
from verify.prover.exact import prove
from verify.prover.integers import Exact


def problem(name, seed=0, dtype=np.float32, N=2):
    """A network, its exact form, N images of bytes and labels."""
    net, rng = build(name, seed, dtype), np.random.default_rng(seed)
    images = rng.choice([0, 255, *range(256)], (N, *net.input_shape)).astype(np.uint8)
    return net, exact.Network(net.spec(), net.params, net.input_shape), images, rng.integers(0, net.classes, N)


def made(name, methods=("crown-ibp",), eps="0.03", clipped=True, **more):
    net, network, images, labels = problem(name, **more)
    return net, network, [c for c, _ in make(net, images, labels, eps, clipped, methods)]


def flipped(array, index, bit):
    """A copy with one bit of one entry flipped."""
    copy = np.ascontiguousarray(array).copy()
    flat = copy.reshape(-1).view(f"u{copy.itemsize}")
    flat[index] ^= flat.dtype.type(1 << bit)
    return copy


def some_bits(array, rng, count=6):
    """(index, bit) at random, with the lowest and the highest bit among them."""
    bits = [0, 8 * array.itemsize - 1, *rng.integers(0, 8 * array.itemsize, count - 2)]
    return [(int(rng.integers(array.size)), int(bit)) for bit in bits]


# ---- integers ----

def test_floats_become_exact_and_sums_and_products_stay_so():
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(5, 3)) * np.exp2(rng.integers(-300, 300, (5, 3))) for _ in range(2)]
    values[0][0] = [0.0, 5e-324, -2.0**1023]
    one, other = (integers.exact(v) for v in values)
    one_, other_ = (rational(v) for v in values)
    for found, expected in ((one, one_), (one + other, one_ + other_), (one - other, one_ - other_),
                            (one * other, one_ * other_), (one.positive(), np.maximum(one_, 0)),
                            (one.greatest(other), np.maximum(one_, other_)), (one.half(), one_ / 2),
                            (one.total(), one_.sum(0)), (integers.exact(np.zeros(3)), np.zeros(3))):
        assert (found.n * found.unit == expected).all()
    assert ((one <= other) == (one_ <= other_)).all()
    assert (one <= one).all() and not (one + Exact(1 + 0 * one.n, one.unit) <= one).any()


@pytest.mark.parametrize("spread", [1, 40, 500])  # limbs of the weights
def test_a_matrix_multiplies_exactly_whatever_the_magnitudes(spread):
    rng = np.random.default_rng(spread)
    W = rng.normal(size=(7, 90)) * np.exp2(rng.integers(-spread, spread, (7, 90)))
    x = Exact(np.array([[int(v) << int(s) for v, s in zip(rng.integers(-9, 9, 4), rng.integers(0, 300, 4))]
                        for _ in range(90)], object), Fraction(1, 3))
    g, matrix, N = Exact(x.n[:7], x.unit), integers.dense(W), rational(W)
    assert (((matrix @ x).n * (matrix @ x).unit) == N @ (x.n * x.unit)).all()
    assert (((matrix.magnitude @ x).n * matrix.unit * x.unit) == abs(N) @ (x.n * x.unit)).all()
    for some in (np.arange(7), np.arange(7)[::-1], np.array([2, 5])):
        inputs, product = matrix.adjoint(some, g[some])
        assert (product.n * product.unit == N[some][:, inputs].T @ (g.n[some] * g.unit)).all() and len(inputs) == 90


def test_the_longest_sums_do_not_overflow():
    """Weights and numbers of all ones, as long as a row may be: the worst case of the limbs."""
    n = 20000
    matrix, x = integers.dense(np.full((2, n), 2.0**53 - 1)), Exact(np.full((n, 1), 2**200 - 1, object), Fraction(1))
    assert (matrix @ x).n[0, 0] * matrix.unit == n * (2**53 - 1) * (2**200 - 1)


def test_a_convolution_is_its_definition():
    for name in ALL:
        net, network, _, _ = problem(name, dtype=np.float64)
        layers = [layer for layer in network.layers if layer]
        for (i, layer), (matrix, bias) in zip(net.affine, layers, strict=True):
            x = np.random.default_rng(i).integers(-5, 6, (2, *net.shapes[i]))
            y = matrix @ Exact(x.reshape(2, -1).T.astype(object), Fraction(1)) + bias
            z = (layer.apply(net.params[f"{i}.weight"], layer.patches(as_rows(x, float)))
                 + layer.per_unit(net.params[f"{i}.bias"]))
            expected = images(z, net.shapes[i + 1]).reshape(2, -1).T
            np.testing.assert_allclose((y.n * y.unit).astype(float), expected, rtol=1e-12, atol=1e-12)


# ---- what a proof is ----

def by_class(s, y):
    """{m: a margin} from (S, 1)."""
    return dict(zip((m for m in range(len(s) + 1) if m != y), s[:, 0]))


def margins_at(net, x, y):
    """{m: z_m − z_y} at a rational point (n,)."""
    x = rows(x.reshape(1, *net.input_shape), net.input_shape)
    return by_class(exact_margins(net, x, np.array([y])), y)


def points(c, rng, count=4):
    """Rational points of a certificate's ball, vertices among them."""
    x, eps = rational(c.image.astype(int)) / 255, Fraction(c.eps)
    low, high = x - eps, x + eps
    if c.clipped:
        low, high = np.maximum(low, Fraction(0)), np.minimum(high, Fraction(1))
    for k in range(count):
        yield low + rational(rng.random(len(x)) if k % 2 else rng.integers(0, 2, len(x)).astype(float)) * (high - low)


@pytest.mark.parametrize("clipped", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_what_is_proved_holds_at_every_point_and_equals_the_float_bound(name, clipped):
    for method in ("crown-ibp", "alpha", "cap"):
        net, network, certificates = made(name, (method,), clipped=clipped, seed=1)
        for c in certificates:
            proof = prove(c, network)
            for x in points(c, np.random.default_rng(0)):
                assert all(value <= proof.margins[m] for m, value in margins_at(net, x, c.label).items())
            wide = net.with_params({k: v.astype(float) for k, v in net.params.items()})
            ball = rb.Ball(to_float(c.image, float).reshape(1, *net.input_shape), 0.03,
                           domain=(0, 1) if clipped else None)
            options = {"steps": 20, "shared": False} if method == "alpha" else {}
            s = rb.margin_bounds(wide, ball, np.array([c.label]), method, **options)[0]
            tolerance = 1e-3 if method == "cap" else 1e-6  # l, u and slopes have few bits
            least = -np.inf if method == "cap" else -tolerance  # a certificate takes the interval bound if it is better
            assert all(least <= float(v) - s[m] <= tolerance for m, v in proof.margins.items())


def test_the_margins_are_definition_1_in_rationals():
    for name in ("dense", "stride 1, 2, padding 1", "ReLU after ReLU"):
        net, network, certificates = made(name, ("alpha",), seed=3, N=1)
        c, = certificates
        lines = []
        for k, i in enumerate(net.relus):
            l, u, s, a = (rational(rows(v[k].reshape(-1, 1, *net.shapes[i]), net.shapes[i]))
                          for v in (c.l, c.u, c.s, c.a))
            above = np.maximum(np.maximum(l, Fraction(0)) - s * l, np.maximum(u, Fraction(0)) - s * u)
            lines.append((a, s[0], above[0], None))
        x = rational(rows(c.image.reshape(1, *net.input_shape), net.input_shape).astype(int)) / 255
        eps = Fraction(c.eps)
        low, high = np.maximum(x - eps, Fraction(0)), np.minimum(x + eps, Fraction(1))
        s = definition_1(net, np.array([c.label]), lines, 0, low, high)
        assert prove(c, network).margins == by_class(s, c.label)


@pytest.mark.parametrize("method", MAKERS)
def test_every_maker_makes_what_is_proved(method):
    _, network, certificates = made("stride 1, 2, padding 1", (method,), N=3)
    for c in certificates:
        assert prove(c, network).margins.keys() == set(range(network.classes)) - {c.label}


def test_caps_bounds_are_proved_where_intervals_do_not_reach():
    _, network, certificates = made("stride 1, 2, padding 1", ("cap",), eps="0.1")
    _, _, plain = made("stride 1, 2, padding 1", ("cap-ibp",), eps="0.1")
    for c, p in zip(certificates, plain):
        assert prove(c, network).worst < prove(p, network).worst
        assert any((tight > loose).any() for tight, loose in zip(c.l, p.l))


def test_a_slope_that_is_none_of_a_lower_line_does_not_prove_caps_bounds():
    _, network, certificates = made("stride 1, 2, padding 1", ("cap",), eps="0.1", N=1)
    c = certificates[0]
    for k, change in itertools.product((0, 1), (-1e-9, 1 + 1e-9)):
        with pytest.raises(Rejected, match=r"s: an upper slope outside \[0, 1\]"):
            prove(c._replace(s=[*c.s[:k], c.s[k] * 0 + change, *c.s[k + 1:]]).sealed(), network)


# ---- what is rejected ----

@pytest.mark.parametrize("kind", "lusa")
def test_one_flipped_bit_of_a_claim_is_rejected(kind):
    rng = np.random.default_rng(0)
    for name in ("dense", "stride 2, 1, padding 0"):
        _, network, certificates = made(name, ("alpha",), N=1)
        c, = certificates
        prove(c, network)
        for k, array in enumerate(getattr(c, kind)):
            for index, bit in some_bits(array, rng):
                arrays = [flipped(v, index, bit) if j == k else v for j, v in enumerate(getattr(c, kind))]
                with pytest.raises(Rejected):
                    prove(c._replace(**{kind: arrays}), network)


def test_one_flipped_bit_of_a_weight_or_of_the_image_is_rejected():
    rng = np.random.default_rng(0)
    for name in ("dense", "stride 2, 1, padding 0"):
        net, network, certificates = made(name, N=1)
        c, = certificates
        for parameter, array in net.params.items():
            for index, bit in some_bits(array, rng):
                params = {**net.params, parameter: flipped(array, index, bit)}
                if np.isfinite(params[parameter]).all():
                    with pytest.raises(Rejected, match="another network"):
                        prove(c, exact.Network(net.spec(), params, net.input_shape))
        for index, bit in some_bits(c.image, rng):
            with pytest.raises(Rejected, match="changed since"):
                prove(c._replace(image=flipped(c.image, index, bit)), network)
    for field, value in (("label", (c.label + 1) % 4), ("eps", "0.02999"), ("clipped", False)):
        with pytest.raises(Rejected, match="changed since"):
            prove(c._replace(**{field: value}), network)


def test_without_the_digest_the_mathematics_rejects_a_false_bound_and_proves_what_is_true_of_a_looser_one():
    rng = np.random.default_rng(0)
    for name, method, kind in itertools.product(("dense", "stride 1, 2, padding 1"), ("crown-ibp", "cap"), "lu"):
        net, network, certificates = made(name, (method,), N=1, eps="0.1")
        c, = certificates
        inputs = forward(net, as_rows(to_float(c.image, net.dtype).reshape(1, *net.input_shape), net.dtype))[1]
        for k, i in enumerate(net.relus):
            for false in (True, False):
                arrays = [v.copy() for v in getattr(c, kind)]
                unit, sign = rng.integers(arrays[k].size), 1 if kind == "l" else -1
                arrays[k][unit] = (images(inputs[i], net.shapes[i]).reshape(-1)[unit] + sign * 1e-4 if false
                                   else arrays[k][unit] - sign * 0.1)
                changed = c._replace(**{kind: arrays}).sealed()
                if false:  # x itself goes beyond it
                    with pytest.raises(Rejected,
                                       match=rf"{kind} of ReLU {k}, unit {unit}: tighter than what can be proved"):
                        prove(changed, network)
                else:
                    proof = prove(changed, network)
                    assert all(value <= proof.margins[m]
                               for x in points(c, rng) for m, value in margins_at(net, x, c.label).items())


def test_the_last_float_that_is_a_bound_is_proved_and_the_next_is_rejected():
    net, network, certificates = made("dense", N=1)
    c, = certificates
    low, high = exact.interval(*network.layers[0], *exact.ball(c))
    for unit, (l, u) in enumerate(zip(low.n[:, 0] * low.unit, high.n[:, 0] * high.unit)):
        for kind, end, inward in (("l", l, 1), ("u", -u, -1)):
            value = inward * float(end)  # mirrored, so that a bound is what is at most `end`
            for value in (np.nextafter(value, -inward * np.inf), value, np.nextafter(value, inward * np.inf)):
                array = getattr(c, kind)[0].copy()
                array[unit] = value
                changed = c._replace(**{kind: [array, *getattr(c, kind)[1:]]}).sealed()
                if inward * Fraction(value) <= end:
                    prove(changed, network)
                else:
                    with pytest.raises(Rejected, match=f"{kind} of ReLU 0, unit {unit}"):
                        prove(changed, network)


def test_any_slopes_give_what_is_true():
    rng = np.random.default_rng(0)
    for name in ("dense", "stride 1, 2, padding 1"):
        net, network, certificates = made(name, N=1)
        c, = certificates
        for _ in range(3):
            wild = c._replace(s=[rng.normal(size=v.shape) for v in c.s], a=[rng.random(v.shape) for v in c.a]).sealed()
            proof = prove(wild, network)
            assert all(value <= proof.margins[m]
                       for x in points(c, rng) for m, value in margins_at(net, x, c.label).items())


@pytest.mark.parametrize("change, line", [
    (lambda c: {"a": [v * 0 + 1.0000001 for v in c.a]}, r"a: a lower slope outside \[0, 1\]"),
    (lambda c: {"a": [v * 0 - 1e-300 for v in c.a]}, r"a: a lower slope outside \[0, 1\]"),
    (lambda c: {"a": [*c.a[:-1], c.a[-1] + 1]}, r"a: a lower slope outside \[0, 1\]"),
    (lambda c: {"l": [v * np.nan for v in c.l]}, "l: a NaN or an infinity"),
    (lambda c: {"u": [v + np.inf for v in c.u]}, "u: a NaN or an infinity"),
    (lambda c: {"s": c.s[1:]}, "s: expected a float array for each ReLU"),
    (lambda c: {"s": [v.astype(np.longdouble) for v in c.s]}, "s: expected a float array for each ReLU"),
    (lambda c: {"image": c.image[1:]}, "image, label: expected"),
    (lambda c: {"image": c.image + 0.5}, "image, label: expected"),
    (lambda c: {"label": 4}, "image, label: expected"),
    (lambda c: {"eps": "-0.1"}, "eps: expected a decimal fraction"),
    (lambda c: {"eps": "nan"}, "eps: expected a decimal fraction"),
])
def test_what_is_no_certificate_is_rejected_in_one_line(change, line):
    _, network, certificates = made("dense", N=1)
    with pytest.raises(Rejected, match=line) as caught:
        prove(certificates[0]._replace(**change(certificates[0])).sealed(), network)
    assert "\n" not in str(caught.value)


def test_a_bound_negative_only_by_rounding_is_not_proved():
    """z_1 − z_0 = 2^15 (255 j x − j k) is 0 at x = k / 255; in float64 it is −1e-9 or so for some j and k."""
    for j, k in itertools.product(range(1, 100, 2), range(1, 256)):
        params = {"0.weight": np.array([[0.0], [255.0 * j * 2**15]]), "0.bias": np.array([0.0, -j * k * 2.0**15])}
        net = rb.Network([Linear(1, 2)], params, (1,))
        s = rb.margin_bounds(net, rb.Ball(to_float(np.array([[k]], np.uint8), float), 0.0), np.array([0]), "crown-ibp")
        if s[0, 1] < 0:
            break
    assert -1e-7 < s[0, 1] < 0 and rb.certified(s, np.array([0])).all()
    (c, worst), = make(net, np.array([[k]], np.uint8), np.array([0]), "0")
    proof = prove(c, exact.Network(net.spec(), net.params, net.input_shape))
    assert worst < 0 and proof.margins == {1: 0} and not proof.holds


@pytest.mark.parametrize("c", [2.0**-20, 2.0**30])
def test_a_last_layer_times_c_has_the_same_certificates(c):
    net, _, images, labels = problem("dense", seed=1, N=6)
    labels = net(to_float(images, net.dtype)).argmax(1)
    methods = ("cap-ibp", "crown-ibp", "alpha")
    found, other = (make(n, images, labels, "0.01", methods=methods)
                    for n in (net, last_layer_times(net, np.float32(c))))
    assert any(bound < 0 for _, bound in found) and any(bound >= 0 for _, bound in found)
    for (one, bound), (two, of_two) in zip(found, other):
        assert of_two == pytest.approx(c * bound, rel=1e-12)
        for kind in "lusa":
            assert all((v == w).all() for v, w in zip(getattr(one, kind), getattr(two, kind), strict=True))


@pytest.mark.parametrize("field, value", [("label", False), ("label", True), ("label", 0.0), ("eps", float("inf")),
                                          ("eps", 0.1), ("clipped", "False"), ("clipped", 1), ("label", b"0"),
                                          ("label", 1j), ("eps", [b"0.1"]), ("label", np.datetime64("2021-01-01")),
                                          ("eps", 0.1j), ("clipped", b"True"), ("eps", "1e-999999999")])
def test_a_field_of_another_type_is_rejected(field, value, tmp_path):
    """False is in range(c) too, and an index by it writes nothing: it proved a margin the network does not have."""
    _, network, (certificate, *_) = made("dense")
    claims.save(certificate._replace(**{field: value}), tmp_path / "forged.npz")
    with pytest.raises(Rejected, match=f"{field}: expected"):
        prove(claims.read(tmp_path / "forged.npz"), network)


def test_eps_is_any_number_as_it_is_printed_and_all_else_is_one_line():
    net, _, images, labels = problem("dense")
    wanted = [c for c, _ in make(net, images, labels, "0.03")]
    for eps in (0.03, np.float32(0.03), np.float64(0.03)):
        assert [c.digest for c, _ in make(net, images, labels, eps)] == [c.digest for c in wanted]
    for eps in (None, "x", b"0.03", 0.03j, np.nan, [], [["0.03"], []]):
        with pytest.raises(ValueError, match="eps: expected"):
            make(net, images, labels, eps)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_image_whose_bounds_overflow_has_no_bound_below_0():
    net = rb.Network([Linear(1, 2), ReLU(), Linear(2, 2), ReLU(), Linear(2, 2)], {
        **{f"{i}.weight": np.full((2, 1 + (i > 0)), 1e200 if i < 4 else 1.0) for i in (0, 2, 4)},
        **{f"{i}.bias": np.zeros(2) for i in (0, 2, 4)}}, (1,))
    assert all(not bound < 0 for _, bound in make(net, np.full((2, 1), 100, np.uint8), np.array([0, 1]), "0.1"))


def test_the_units_to_be_proved_are_all_in_one_group_each():
    _, network, _, _ = problem("stride 1, 2, padding 1")
    units = np.random.default_rng(0).permutation(1000)[:200]
    for layers in ([], network.layers[:2], network.layers):
        groups = exact._neighbours(units, layers)
        assert sorted(np.concatenate(groups)) == sorted(units) and max(map(len, groups)) == 64


def test_what_is_no_float_is_not_rounded_to_one():
    for dtype in (np.int64, bool):
        with pytest.raises(ValueError, match="expected float16, float32 or float64"):
            integers.exact(np.ones(2, dtype))


def test_a_network_is_known_by_its_layers_and_the_shape_of_its_input_too():
    net = build("stride 1, 2, padding 1")
    spec = net.spec()
    assert len({claims.network_digest(*given) for given in (
        (spec, net.params, net.input_shape), ([{**spec[0], "stride": 2}, *spec[1:]], net.params, net.input_shape),
        (spec, net.params, (5, 1, 5)))}) == 3


def test_of_several_methods_the_one_with_the_least_worst_margin_is_taken():
    net, _, images, labels = problem("dense", N=8)
    methods = ("cap-ibp", "crown-ibp")
    alone = np.array([[bound for _, bound in make(net, images, labels, "0.1", methods=(name,))] for name in methods])
    for order in (methods, methods[::-1]):
        found = [bound for _, bound in make(net, images, labels, "0.1", methods=order)]
        assert (np.array(found) == alone.min(0))[alone.min(0) >= 0].all()
    assert len({*alone.argmin(0)[alone.min(0) >= 0]}) == 2
