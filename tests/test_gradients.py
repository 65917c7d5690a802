"""Every hand-written gradient against a second derivation (autograd) and against central differences."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from networks import ALL, BALLS, CONV, DENSE, TRAINED, batch, build, draws

import refbound as rb
from refbound.checks import method_options
from refbound.arrays.ops import as_rows
from refbound.layers import forward, forward_vjp
from refbound.losses import mixed_loss

VARIANTS = {**TRAINED, "cap, projected": ("cap", {"projections": 5})}  # projections know l∞ only
WEIGHTS = {"beta 1": (1, 0), "mixed": (0.6, 0.3), "ibp": (0, 0), "clean": (0.5, 1)}  # (β, κ)
WAYS = ("ibp", "one-step", "cap", "crown")  # one of each way back to the parameters; the others differ in slope rules
CASES = ([(name, variant, ball, "mixed") for name in ALL for variant in VARIANTS for ball in BALLS
          if ball == "inf" or variant in WAYS] +
         [("dense", variant, "inf", weights) for variant in VARIANTS for weights in ("beta 1", "ibp", "clean")] +
         [("rectangular", variant, "l2", "beta 1") for variant in VARIANTS])
DEAD = ["ReLU after ReLU", "ReLU at the end"]  # some g are 0, where the gradient of autograd's ‖g‖₂ is NaN
CASES = [(name, variant, ball, weights) for name, variant, ball, weights in CASES
         if not (variant == "cap, projected" and BALLS[ball][0] != np.inf) and not (name in DEAD and ball == "l2")]


def with_params(net, params):
    """The network with parameters that need not be arrays: autograd's boxes."""
    other = object.__new__(rb.Network)
    other.__dict__.update(net.__dict__, params=params)
    return other


class Problem:
    """A loss in the parameters alone: all that is drawn is drawn once, and the slopes of one-step are held."""

    def __init__(self, name, variant, ball="inf", weights=(1, 0), **more):
        self.method, options = VARIANTS[variant]
        self.net, self.weights, self.options = build(name), weights, {**options, **more}
        self.ball, self.y = batch(self.net, ball)
        self.region, self.x = self.ball.region(self.net.dtype), as_rows(self.ball.x, self.net.dtype)
        self.held = method_options(self.net, self.ball, self.method, {**self.options, "rng": draws()})
        if self.method == "one-step":
            lines = rb.METHODS["one-step"].bound(self.net, self.region, self.y, self.held).lines
            self.held = {"slopes": [line.a_lo for line in lines]}

    def value(self, params):
        """The mean loss, by the same forward code on whatever arrays the parameters are."""
        beta, kappa = self.weights
        mixture = (rb.METHODS[self.method], beta), (rb.METHODS["ibp"], 1 - beta)
        return anp.mean(mixed_loss(
            with_params(self.net, params), self.region, self.x, self.y, mixture, self.held, kappa).value)

    def hand_written(self):
        return rb.robust_loss(self.net, self.ball, self.y, self.method, *self.weights, **self.options, rng=draws())


def check_by_autograd(problem, grads):
    """Every entry of every gradient to 1e-9 of the largest in its parameter."""
    expected = autograd.grad(problem.value)(problem.net.params)
    assert set(grads) == set(expected)
    for name in expected:
        assert grads[name].shape == expected[name].shape
        assert np.abs(grads[name] - expected[name]).max() <= 1e-9 * np.abs(expected[name]).max(), name


def check_by_differences(problem, grads):
    """For each parameter, the derivative along a random direction and along the gradient's signs, to 1e-6.

    The loss is piecewise smooth: where a kink lies between the two points, they draw closer until it does not.
    """
    rng, params = np.random.default_rng(3), problem.net.params
    for name, p in params.items():
        for way in (rng.choice([-1.0, 1.0], p.shape), np.sign(grads[name])):
            errors = []
            for h in (1e-6, 1e-7, 1e-8):
                ahead, behind = (problem.value({**params, name: p + t * way}) for t in (h, -h))
                errors.append(abs((ahead - behind) / (2 * h) - (grads[name] * way).sum()))
                if errors[-1] <= 1e-6 * np.abs(grads[name]).sum():
                    break
            else:
                raise AssertionError(f"{name}: wrong by {errors}")


@pytest.mark.parametrize("name, variant, ball, weights", CASES)
def test_the_gradient_of_the_loss_is_autograds(name, variant, ball, weights):
    problem = Problem(name, variant, ball, WEIGHTS[weights])
    out = problem.hand_written()
    assert abs(out.value - problem.value(problem.net.params)) < 1e-12
    check_by_autograd(problem, out.grads)


@pytest.mark.parametrize("name, variant, ball", [
    *((name, variant, "inf") for name in [*DENSE, *CONV] for variant in VARIANTS),
    *((name, variant, "l2") for name in DEAD for variant in TRAINED)])
def test_the_gradient_of_the_loss_is_its_central_difference(name, variant, ball):
    problem = Problem(name, variant, ball, (0.6, 0.3))
    check_by_differences(problem, problem.hand_written().grads)


@pytest.mark.parametrize("check", [check_by_autograd, check_by_differences])
@pytest.mark.parametrize("name, variant", [("dense", "one-step"), ("stride 1, 2, padding 1", "cap")])
def test_the_checkers_catch_a_gradient_that_is_wrong_by_a_twentieth_of_a_percent(name, variant, check):
    problem = Problem(name, variant)
    grads = problem.hand_written().grads
    check(problem, grads)
    for wrong in grads:
        with pytest.raises(AssertionError):
            check(problem, {**grads, wrong: 1.0005 * grads[wrong]})


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("method", ["cap-ibp", "cap", "crown", "one-step"])
def test_given_slopes_are_held_constant(method, each):
    net = build("dense")
    lead, rng = (3, net.classes - 1) if each else (3,), draws()
    slopes = [rng.random((*lead, *net.shapes[i])) for i in net.relus]
    problem = Problem("dense", method, slopes=slopes)
    check_by_autograd(problem, problem.hand_written().grads)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", ALL)
def test_at_radius_0_the_gradient_is_that_of_the_clean_loss(name, ball):
    net = build(name)
    ball, y = batch(net, ball, eps=0.0)
    clean = rb.robust_loss(net, ball, y, "ibp", beta=0, kappa=1).grads
    for method, options in TRAINED.values():
        grads = rb.robust_loss(net, ball, y, method, **options, rng=draws()).grads
        for key, grad in clean.items():
            np.testing.assert_allclose(grads[key], grad, rtol=0, atol=1e-12, err_msg=f"{method} {key}")


# ---- the clean network ----

@pytest.mark.parametrize("name", ALL)
def test_forward_vjp_and_input_gradient_are_autograds(name):
    net = build(name)
    x, dz = as_rows(batch(net)[0].x, net.dtype), draws().normal(size=(3, net.classes))
    inputs = forward(net, x)[1]

    def scalar(params, x):
        return anp.sum(dz * forward(with_params(net, params), x)[0])

    dparams, dx = autograd.grad(scalar, (0, 1))(net.params, x)
    grads = forward_vjp(dz, net, inputs)
    assert set(grads) == set(dparams)
    for key, d in dparams.items():
        np.testing.assert_allclose(grads[key], d, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forward_vjp(dz, net, inputs, of="input"), dx, rtol=1e-9, atol=1e-12)
