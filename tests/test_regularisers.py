"""A start that suits interval bounds, and the two regularisers: formulas, gradients, limits, and runs with them."""

import json
import re
from dataclasses import asdict

import autograd.numpy as anp
import numpy as np
import pytest
from networks import ALL, BALLS, batch, build
from test_device import check_alike, moved
from test_gradients import check_by_autograd, check_by_differences, with_params
from test_objectives import step_of
from test_training import SHORT

import refbound as rb
from refbound.interval import interval
from refbound.regularisers import penalty, regularise
from trainers import table1, train
from trainers.files import checkpoint
from trainers.loop import minibatch, schedule

WIDTHS = (100, 200, 200, 200, 200, 200, 10)


# ---- the start ----


def gains(net, eps=0.1):
    """The mean radius at each ReLU, in units of the input's."""
    x = np.random.default_rng(1).random((4, *net.input_shape)).astype(net.dtype)
    return [float((u - l).mean() / 2 / eps) for l, u in interval(net, rb.Ball(x, eps, domain=None).region(net.dtype)).pre]


def started(seed, widths=WIDTHS):
    rng = np.random.default_rng(seed)
    return rb.models.for_intervals(rng, rb.models.mlp(rng, widths))


@pytest.mark.parametrize("seed", range(10))
def test_radii_stay_within_a_factor_of_two_through_five_layers(seed):
    assert all(1 < gain < 4 and first / 2 < gain < 2 * first for found in [gains(started(seed))] for first in found[:1] for gain in found)
    uniform = gains(rb.models.mlp(np.random.default_rng(seed), WIDTHS))
    assert all(after > 2 * before for before, after in zip(uniform, uniform[1:]))


def test_every_relu_has_radii_of_twice_the_inputs_in_the_mean():
    """To four standard errors of the mean over 400 seeds."""
    found = np.array([gains(started(seed, (20, 30, 30, 30, 30, 30, 3))) for seed in range(400)])
    error = found.std(0) / 20
    assert (error < 0.05).all() and (np.abs(found.mean(0) - 2) < 4 * error).all()


@pytest.mark.parametrize("name", rb.models.MODELS)
def test_only_weights_before_the_last_layer_are_drawn_anew(name):
    net = rb.models.MODELS[name](np.random.default_rng(0))
    other = rb.models.for_intervals(np.random.default_rng(1), net)
    for i, layer in net.affine:
        weight, fan_in = other.params[f"{i}.weight"], np.prod(layer.weight_shape[1:])
        np.testing.assert_array_equal(other.params[f"{i}.bias"], net.params[f"{i}.bias"])
        assert (weight == net.params[f"{i}.weight"]).all() == (i == net.affine[-1][0]) and weight.dtype == net.dtype
        if i != net.affine[-1][0]:  # the standard deviation of so many draws, to five of its own
            assert abs(weight.std() * fan_in / np.sqrt(2 * np.pi) - 1) < 5 / np.sqrt(2 * weight.size)
    if name.startswith("dm_large"):
        assert all(1 < gain < 4 for gain in gains(other))


# ---- the regularisers ----


class Penalised:
    """The mean of ℓ in the parameters alone."""

    def __init__(self, name, ball="inf", tau=0.5, N=6, scale=1.0):
        self.net, self.tau = build(name), tau
        self.net = self.net.with_params({key: scale * value for key, value in self.net.params.items()})
        self.ball, _ = batch(self.net, ball, N)
        self.region = self.ball.region(self.net.dtype)

    def value(self, params):
        net = with_params(self.net, params)
        return anp.mean(penalty(interval(net, self.region).pre, self.region.radius.mean(-1), self.tau))

    def hand_written(self):
        return regularise(self.net, self.ball, self.tau)


@pytest.mark.parametrize("tau", [0.5, 1.0])
@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", ALL)
def test_the_gradient_of_the_regularisers_is_autograds(name, ball, tau):
    problem = Penalised(name, ball, tau)
    out = problem.hand_written()
    assert abs(out.value - problem.value(problem.net.params)) < 1e-12
    check_by_autograd(problem, out.grads)
