"""The equalities between methods and the inequalities that theory promises, on random networks."""

import numpy as np
import pytest
from networks import ALL, BALLS, CONV, METHODS, batch, build, draws, unit

import refbound as rb
from refbound import layerwise, relaxation
from refbound.arrays import blocks
from refbound.arrays.field import Field, field
from refbound.cap import two_sided
from refbound.interval import interval
from refbound.arrays.ops import as_rows, images, with_true_class
from refbound.linear import maximise, relax
from refbound.layers import Conv2d, forward, margin_matrix
from verify.speed.cost import multiply_adds

ON = [("dense", "inf"), ("stride 1, 2, padding 1", "inf, not clipped"), ("rectangular", "l2"),
      ("ReLU on the input", "l1")]
on_networks = pytest.mark.parametrize("name, ball", ON)
everywhere = pytest.mark.parametrize("name, ball", [(name, ball) for name in ALL for ball in BALLS])


def close(a, b, atol=1e-12):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def bounds(net, ball, y, variant, **more):
    method, options = METHODS[variant]
    return rb.margin_bounds(net, ball, y, method, **{**options, **more}, rng=draws())


def start(net, N=3):
    """Draws of U[0, 1] for `a0` or `slopes`."""
    return [draws(k).random((N, *net.shapes[i])) for k, i in enumerate(net.relus)]


# ---- equalities ----

@everywhere
def test_ibp_is_the_linear_bound_with_constant_lines(name, ball):
    """h̲ = l⁺ and h̄ = u⁺ around the last ReLU: b = g⁺·u⁺ + g⁻·l⁺ and nothing is left of g."""
    net = build(name)
    ball, y = batch(net, ball)
    region, C = ball.region(net.dtype), margin_matrix(y, net.classes, net.dtype)
    pre = interval(net, region).pre
    bound = relax(net, len(net.layers), C, (), start=net.relus[-1] + 1 if pre else 0)
    if pre:
        l, u = (np.maximum(z, 0) for z in pre[-1])
        s = (np.maximum(bound.g, 0) * u + np.minimum(bound.g, 0) * l).sum(-1) + bound.b
    else:
        s = maximise(bound, region)[0]
    close(with_true_class(s, y), rb.margin_bounds(net, ball, y, "ibp"))


@everywhere
def test_two_sided_bounds_are_the_linear_bounds_of_plus_and_minus_the_identity(name, ball):
    net = build(name)
    ball, _ = batch(net, ball)
    region = ball.region(net.dtype)
    pre = [(as_rows(l, float), as_rows(u, float)) for l, u in rb.preactivation_bounds(net, ball, "cap")]
    lines = [relaxation.enclose(l, u) for l, u in pre]
    for k, stop in enumerate([*net.relus, len(net.layers)]):
        E = np.eye(net.units[stop])[:, None, :]
        bound = two_sided(net, stop, E, [relaxation.chord(l, u) for l, u in pre], region)
        upper, minus_lower = (maximise(relax(net, stop, C, lines), region)[0] for C in (E, -E))
        close(bound.m + bound.d, upper)
        close(bound.m - bound.d, -minus_lower)
        if k < len(pre):
            close(pre[k], (-minus_lower.T, upper.T))


@on_networks
@pytest.mark.parametrize("method", ["cap", "crown"])
def test_blocks_change_nothing(name, ball, method, monkeypatch):
    net = build(name)
    ball, y = batch(net, ball)
    whole = rb.robust_loss(net, ball, y, method)
    for entries, kept in ((1, 0), (3 * max(net.units) * len(ball), 2**23), (2**19, 0)):  # 1 row, 3, all; kept or not
        monkeypatch.setattr(blocks, "BLOCK", entries)
        monkeypatch.setattr(blocks, "KEPT", kept)
        parts = rb.robust_loss(net, ball, y, method)
        close(parts.margins, whole.margins)
        for key, grad in whole.grads.items():
            close(parts.grads[key], grad)


@pytest.mark.parametrize("name, ball", [
    *ON[1:3], ("convolution after convolution", "inf"), ("convolution after convolution", "l2")])
@pytest.mark.parametrize("method", ["cap", "crown"])
def test_the_receptive_field_changes_nothing(name, ball, method, monkeypatch):
    net = build(name)
    ball, y = batch(net, ball)
    cut = rb.robust_loss(net, ball, y, method)
    monkeypatch.setattr(layerwise, "field", lambda net, stop, N: Field(net, [], None))
    whole = rb.robust_loss(net, ball, y, method)
    close(cut.margins, whole.margins)
    for key, grad in whole.grads.items():
        close(cut.grads[key], grad)


def normalised(net, scale, shift):
    """The network on scale x + shift, (C,) each: a 1 × 1 convolution in front."""
    C = len(scale)
    later = {f"{int(name.split('.')[0]) + 1}.{name.split('.')[1]}": value for name, value in net.params.items()}
    front = {"0.weight": np.diag(scale).reshape(C, C, 1, 1), "0.bias": shift}
    return rb.Network([Conv2d(C, C, 1), *net.layers], {**front, **later}, net.input_shape)


def same_bounds(one, ball, other, moved, y):
    for method in ("ibp", "crown-ibp", "cap", "crown"):
        close(rb.margin_bounds(one, ball, y, method), rb.margin_bounds(other, moved, y, method))
        for a, b in zip(rb.preactivation_bounds(one, ball, method), rb.preactivation_bounds(other, moved, method)):
            close(a, b)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", CONV)
def test_a_normalisation_in_front_bounds_what_the_plain_network_does_on_the_normalised_ball(name, ball):
    """Padding too, which is 0 after the normalisation."""
    net = build(name)
    ball, y = batch(net, ball)
    scale, shift = 2.5, -0.7
    domain = ball.domain and (shift, scale + shift)
    moved = rb.Ball(scale * ball.x + shift, scale * ball.eps, norm=ball.norm, domain=domain)
    C = net.input_shape[0]
    same_bounds(normalised(net, np.full(C, scale), np.full(C, shift)), ball, net, moved, y)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", CONV)
def test_a_normalisation_in_front_has_the_bounds_of_the_network_that_it_is_folded_into(name, ball):
    """W scale and bias + W shift; with padding the shift is 0."""
    net = build(name)
    ball, y = batch(net, ball)
    scale, shift = draws().uniform(0.5, 3, (2, net.input_shape[0]))
    if net.layers[0].padding != (0, 0):
        shift = 0 * shift
    W, bias = net.params["0.weight"], net.params["0.bias"]
    folded = {"0.weight": W * scale[:, None, None], "0.bias": bias + np.einsum("ochw,c->o", W, shift)}
    same_bounds(normalised(net, scale, shift), ball, net.with_params({**net.params, **folded}), ball, y)


@pytest.mark.parametrize("method", ["cap", "crown"])
def test_a_normalisation_in_front_costs_little(method):
    net = rb.models.small(draws(), dtype=np.float64)
    front = normalised(net, np.ones(1), np.zeros(1))
    assert multiply_adds(front, method) < 1.1 * multiply_adds(net, method)
    for plain, behind in zip(net.relus, front.relus):
        assert max(field(net, plain, 1).net.units) == max(field(front, behind, 1).net.units)


@everywhere
def test_at_radius_0_every_bound_is_the_value_itself(name, ball):
    net = build(name)
    ball, y = batch(net, ball, eps=0.0)
    z = net(ball.x)
    inputs = forward(net, as_rows(ball.x, float))[1]
    for variant in METHODS:
        close(bounds(net, ball, y, variant), z - z[np.arange(3), y][:, None])
    for stage in ("ibp", "cap", "crown"):
        for i, pair in zip(net.relus, rb.preactivation_bounds(net, ball, stage)):
            close([as_rows(v, float) for v in pair], [inputs[i]] * 2)
    close(rb.pgd(net, ball, y, steps=3, rng=draws()), ball.x)


@on_networks
def test_given_slopes_reproduce_the_method_that_chose_them(name, ball):
    net = build(name)
    ball, y = batch(net, ball)
    region = ball.region(net.dtype)
    for variant, (method, options) in METHODS.items():
        if method == "ibp":
            continue
        given = rb.checks.method_options(net, ball, method, {**options, "rng": draws()})
        lines = rb.METHODS[method].bound(net, region, y, given).lines
        slopes = []
        for i, line in zip(net.relus, lines):
            a = line.a_lo if line.a_lo.ndim == 2 else line.a_lo.swapaxes(0, 1)  # (N, n) or (N, S, n)
            slopes.append(images(a, net.shapes[i]))
        close(rb.margin_bounds(net, ball, y, method, slopes=slopes), bounds(net, ball, y, variant))


@on_networks
def test_sparse_at_its_extremes(name, ball):
    """(0, 0) and (1, 1) are slopes 0 and 1; (0, 1) is adaptive, so crown-ibp, where no unit is on the tie u = −l."""
    net = build(name)
    ball, y = batch(net, ball)
    for rate in (0, 1):
        close(bounds(net, ball, y, "sparse", p=rate, q=rate),
              bounds(net, ball, y, "crown-ibp", slopes=[np.full_like(a, rate) for a in start(net)]))
    close(bounds(net, ball, y, "sparse", p=0, q=1), bounds(net, ball, y, "crown-ibp"))
    assert np.abs(bounds(net, ball, y, "sparse", p=1, q=0) - bounds(net, ball, y, "crown-ibp")).max() > 0.01


def test_a_row_of_ones_own_is_a_method(monkeypatch):
    """A rule takes what it names; the slopes 1/2 by a rule are those given."""
    net = build("dense")
    ball, y = batch(net)
    monkeypatch.setitem(rb.METHODS, "half", rb.METHODS["crown-ibp"]._replace(
        slopes=lambda pre: [0 * l + 0.5 for l, _ in pre]))
    half = [np.full((3, *net.shapes[i]), 0.5) for i in net.relus]
    close(rb.margin_bounds(net, ball, y, "half"), rb.margin_bounds(net, ball, y, "crown-ibp", slopes=half))
    assert rb.robust_loss(net, ball, y, "half").value > 0


@on_networks
@pytest.mark.parametrize("eta", [0.125, 2.0])
def test_one_step_is_one_step_of_equation_7(name, ball, eta):
    """Its slopes by hand: the sign of dL/da̲ from differences, unit by unit, through `slopes` alone."""
    net = build(name)
    ball, y = batch(net, ball)
    a0, h = [0.1 + 0.8 * a for a in start(net)], 1e-6

    def loss(slopes):
        return np.log(np.exp(rb.margin_bounds(net, ball, y, "one-step", slopes=slopes)).sum(1))  # (1), with s_y = 0

    a = [v.copy() for v in a0]
    for k, array in enumerate(a0):
        for unit in np.ndindex(array.shape[1:]):
            ends = []
            for t in (h, -h):
                moved = [v.copy() for v in a0]
                moved[k][(slice(None), *unit)] += t
                ends.append(loss(moved))
            d = (ends[0] - ends[1]) / (2 * h)
            a[k][(slice(None), *unit)] -= eta * np.sign(d) * (np.abs(d) > 1e-8)
    by_hand = rb.margin_bounds(net, ball, y, "one-step", slopes=[np.clip(v, 0, 1) for v in a])  # (7)
    close(rb.margin_bounds(net, ball, y, "one-step", a0=a0, eta=eta), by_hand)
    assert np.abs(by_hand - rb.margin_bounds(net, ball, y, "one-step", slopes=a0)).max() > 1e-3


def test_with_a_single_hidden_unit_the_step_ends_at_slope_0():
    """From a₀ > 0: ∂s̄/∂a̲ = g⁻ l, the worst case being the least z. At a₀ = 0 it is the centre, and there z > 0."""
    rng, gains = np.random.default_rng(0), []
    for _ in range(20):
        net = rb.models.mlp(rng, (6, 1, 4), input_shape=(6,), dtype=np.float64)
        ball, y = rb.Ball(rng.random((5, 6)), 0.5), rng.integers(0, 4, 5)
        a0 = [1 - rng.random((5, 1))]
        close(rb.margin_bounds(net, ball, y, "one-step", a0=a0),
              found := rb.margin_bounds(net, ball, y, "one-step", slopes=[0 * a0[0]]))
        gains.append((rb.margin_bounds(net, ball, y, "one-step", slopes=a0) - found).max())
    assert max(gains) > 0.01
    net, ball, y = unit()
    assert rb.margin_bounds(net, ball, y, "one-step", a0=[np.zeros((4, 1))])[0].max() == 3


# ---- inequalities ----

@everywhere
def test_ibp_is_monotone_in_epsilon(name, ball):
    net = build(name)
    radii = [0.0, 0.01, 0.1, 0.3, 1.0, 3.0]
    balls = [batch(net, ball, eps=eps)[0] for eps in radii]
    y = batch(net, ball)[1]
    s = [rb.margin_bounds(net, at, y, "ibp") for at in balls]
    pre = [rb.preactivation_bounds(net, at, "ibp") for at in balls]
    for k in range(len(radii) - 1):
        assert (s[k + 1] >= s[k] - 1e-12).all()
        for (l, u), (wider_l, wider_u) in zip(pre[k], pre[k + 1]):
            assert (wider_l <= l + 1e-12).all() and (wider_u >= u - 1e-12).all()
    assert s[-1].sum() > s[0].sum() + 0.1


@on_networks
def test_alpha_starts_at_crown_ibp_and_never_rises_above_it(name, ball):
    net = build(name)
    ball, y = batch(net, ball)
    crown = bounds(net, ball, y, "crown-ibp")
    for shared in (True, False):
        close(bounds(net, ball, y, "alpha", steps=0, shared=shared), crown)
    if name.startswith("stride"):
        close(rb.margin_bounds(net, ball, y, "alpha"), bounds(net, ball, y, "alpha", steps=20))
    own = bounds(net, ball, y, "alpha", steps=10, shared=False)
    assert (own <= crown).all() and (own < crown - 1e-3).any()
    together, before = (np.log(np.exp(s).sum(1)) for s in (bounds(net, ball, y, "alpha", steps=10), crown))
    assert (together <= before).all() and (together < before - 1e-3).any()
