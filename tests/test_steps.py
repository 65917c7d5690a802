"""Schedules and optimisers, worked by hand."""

import numpy as np
import pytest

from trainers import train
from trainers.loop import optim, schedule


def test_a_schedule_by_hand():
    args = train.Args(eps=0.1, warmup=1, ramp=2, ibp_epochs=0, beta=(1.0, 0.5), kappa=(0.6, 0.2), rate=0.1, factor=0.5,
                      milestones=(2, 3))
    for time, fraction, rate in ((0, 0, 0.1), (1.5, 0.25, 0.1), (2, 0.5, 0.05), (3, 1, 0.025), (9, 1, 0.025)):
        assert schedule.at(time, args) == pytest.approx({
            "eps": 0.1 * fraction, "beta": 1 - 0.5 * fraction, "kappa": 0.6 - 0.4 * fraction, "rate": rate})


def test_the_smooth_ramp_by_hand():
    """a = 1 / (1/256 + 3/64) = 256/13: a/4096 = 1/208 at 1/8, 1/13 at 1/4, and a line from there to 1: 7/13 at 5/8."""
    args = train.Args(eps=1.0, warmup=1, ramp=2, ramp_shape="smooth")
    for t, value in ((0, 0), (1 / 8, 1 / 208), (1 / 4, 1 / 13), (5 / 8, 7 / 13), (1, 1), (2, 1)):
        assert schedule.at(1 + 2 * t, args)["eps"] == pytest.approx(value, rel=1e-12)


def test_two_steps_of_adam_worked_by_hand():
    """g = 2, −2, β₁ = 0.9, β₂ = 0.5: m = 0.2, −0.02, v = 2, 3; no bias: m̂ = 2, −2/19, v̂ = 4, 4; steps 1, −1/19."""
    params, state = {"w": np.array([1.0])}, {}
    for g, w in ((2.0, 0.9), (-2.0, 0.9 + 0.1 / 19)):
        params, state = optim.adam(params, {"w": np.array([g])}, state, rate=0.1, beta2=0.5, eps=0)
        np.testing.assert_allclose(params["w"], w, rtol=1e-14)


def test_the_defaults_of_adam_worked_by_hand():
    """g = 1, 0: m̂ = 0.09 / 0.19, v̂ = 0.000999 / 0.001999. And g = 1e-8 beside eps = 1e-8: half a step."""
    params, state = optim.adam({"w": np.array([1.0, 1.0])}, {"w": np.array([1.0, 1e-8])}, {}, rate=0.1)
    np.testing.assert_allclose(params["w"], [0.9, 0.95], rtol=1e-8)
    params, _ = optim.adam(params, {"w": np.zeros(2)}, state, rate=0.1)
    np.testing.assert_allclose(params["w"][0], 0.9 - 0.1 * 9 / 19 / np.sqrt(999 / 1999), rtol=1e-8)


def test_two_steps_of_sgd_worked_by_hand():
    """g = 1, 1: m = 1, 1.9, w = 1 − 0.1, 0.9 − 0.19."""
    params, state = {"w": np.array([1.0])}, {}
    for w in (0.9, 0.71):
        params, state = optim.sgd(params, {"w": np.array([1.0])}, state, rate=0.1)
        np.testing.assert_allclose(params["w"], w, rtol=1e-14)


def test_a_gradient_is_clipped_by_its_norm_over_all_arrays():
    grads = {"a": np.array([3.0]), "b": np.array([4.0])}
    for limit, clipped in ((1, (0.6, 0.8)), (4.5, (2.7, 3.6)), (5, (3, 4)), (0, (3, 4))):
        assert [g.item() for g in optim.clip_norm(grads, limit).values()] == pytest.approx(clipped)


def test_the_norm_of_a_large_gradient_does_not_overflow():
    grads = {"a": np.full(4, 1e20, np.float32)}
    np.testing.assert_allclose(optim.clip_norm(grads, 1.0)["a"], 0.5, rtol=1e-6)
