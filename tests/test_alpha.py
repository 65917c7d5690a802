"""`alpha` with slopes of its own for every margin reaches the triangle LP that has the same intermediate bounds."""

import numpy as np
import pytest

import refbound as rb
from trainers import data
from verify.programs.lp import triangle_lp


@pytest.mark.parametrize("widths", [(784, 20, 10), (784, 50, 50, 10), (784, 100, 100, 10)])
def test_alpha_comes_within_a_thousandth_of_the_triangle_lp(widths):
    net = rb.models.mlp(np.random.default_rng(0), widths=widths, input_shape=(1, 28, 28), dtype=np.float64)
    test = data.load("mnist", "test")
    ball, y = rb.Ball(data.to_float(test.images[:2], np.float64), 0.1), test.labels[:2]
    s = rb.margin_bounds(net, ball, y, "alpha", steps=200, shared=False)
    pre = rb.preactivation_bounds(net, ball, "alpha")
    for n in range(2):
        lp = triangle_lp(net, ball[n:n + 1], int(y[n]), [(l[n], u[n]) for l, u in pre])
        assert (s[n] - lp >= -1e-7).all()
        assert (s[n] - lp <= 1e-3).all()
