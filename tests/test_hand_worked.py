"""The bounds of two small networks, worked by hand in networks.py, and the parts of the loss written out."""

import numpy as np
import pytest
from networks import HAND_MARGINS, HAND_SECOND, UNIT_MARGINS, draws, hand, unit

import refbound as rb
from refbound.losses import cross_entropy, cross_entropy_vjp
from refbound.arrays.ops import upper_median, with_true_class
from refbound.layers import Linear, ReLU, margin_matrix


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def other_margins(s, y):
    """The margin of the class that is not y, (N,), of two classes."""
    return s[np.arange(len(y)), 1 - y]


@pytest.mark.parametrize("method", HAND_MARGINS)
def test_margin_bounds_are_the_hand_worked(method):
    net, ball, y = hand()
    options = {"a0": [np.full((2, 2), 0.5)] * 2} if method == "one-step" else {}
    close(other_margins(rb.margin_bounds(net, ball, y, method, **options), y), HAND_MARGINS[method])


@pytest.mark.parametrize("method", HAND_SECOND)
def test_preactivation_bounds_are_the_hand_worked(method):
    net, ball, y = hand()
    first, second = rb.preactivation_bounds(net, ball, method)
    for n in range(2):
        close((first[0][n], first[1][n]), ([-1, -2], [3, 2]))
        close((second[0][n], second[1][n]), HAND_SECOND[method])


def test_the_linear_bound_is_the_hand_worked():
    net, ball, y = hand()
    g, b = rb.linear_bound(net, ball, y, "cap-ibp")
    close(g, [[[0, 0], [-17 / 20, 11 / 20]], [[17 / 20, -11 / 20], [0, 0]]])
    close(b, [[0, 57 / 20], [14 / 20, 0]])


def test_what_is_no_theorem_has_its_counterexample():
    """The five of refbound/README.md: a tighter step may meet a looser one later."""
    (net, ball, y), (one, around, labels) = hand(), unit()
    half = [np.full((2, 2), 0.5)] * 2
    assert rb.margin_bounds(net, ball, y, "cap-ibp")[0, 1] == 4.25 > rb.margin_bounds(net, ball, y, "ibp")[0, 1] == 4
    assert (rb.margin_bounds(one, around, labels, "crown-ibp")[0, 1] == 3
            > rb.margin_bounds(one, around, labels, "ibp")[0, 1] == 1)
    assert (rb.margin_bounds(net, ball, y, "one-step", a0=half)[0, 1]
            > rb.margin_bounds(net, ball, y, "crown-ibp")[0, 1] + 0.3)
    for label, start in enumerate((3.95, 2.05)):  # the step raises both
        at = ball[:1], np.array([label])
        moved, held = (other_margins(rb.margin_bounds(net, *at, method, a0=[a[:1] for a in half]), at[1])[0]
                       for method in ("one-step", "random"))
        assert moved > held + 0.04 and abs(held - start) < 1e-12
    # z1 = x in [−1, 1], z2 = −h1, s = −h2. By intervals z2 ∈ [−1, 0], so h2 = 0. By CAP h1 ≥ x/2 ≥ −1/2, so
    # z2 ∈ [−1, 1/2], and with ā = 1/3 s ≤ −z2/3 = h1/3 ≤ (x/2 + 1/2)/3 ≤ 1/3.
    params = {"0.weight": [[1]], "0.bias": [0], "2.weight": [[-1]], "2.bias": [0],
              "4.weight": [[0], [-1]], "4.bias": [0, 0]}
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 1), ReLU(), Linear(1, 2)],
                     {name: np.array(value, float) for name, value in params.items()}, (1,))
    ball, y = rb.Ball(np.zeros((1, 1)), 1.0, domain=None), np.array([0])
    close([rb.margin_bounds(net, ball, y, method)[0, 1] for method in ("cap", "cap-ibp")], [1 / 3, 0])


@pytest.mark.parametrize("method", UNIT_MARGINS)
def test_margin_bounds_of_one_unit_are_the_hand_worked(method):
    net, ball, y = unit()
    close(other_margins(rb.margin_bounds(net, ball, y, method), y), UNIT_MARGINS[method])


def test_slopes_of_one_unit_move_its_bound_as_worked_by_hand():
    """1 − 2 h ≤ 1 + 2 a̲ at x = 1 and 1 + 6 a̲ at x = −1: the gradient in a̲ is positive, so (7) lowers a̲ by η."""
    net, ball, y = unit()

    def bounds(method, **options):
        s = other_margins(rb.margin_bounds(net, ball, y, method, **options), y)
        close(s[[1, 3]], (5, 1))
        return s[[0, 2]]

    half = [np.full((4, 1), 0.5)]
    close(bounds("random", a0=half), (2, 4))
    close(bounds("crown", slopes=half), (2, 4))
    close(bounds("one-step", a0=half), (1, 1))  # 1/2 − 2 projected to 0
    close(bounds("one-step", a0=half, eta=0.25), (1.5, 2.5))  # 1/2 − 1/4
    close(bounds("alpha"), (1, 1))
    for p, q in ((0, 0), (0, 1), (1, 0), (1, 1)):  # −l > u at x = −1 only: slope p there, q at x = 1
        close(bounds("sparse", a0=half, p=p, q=q), (1 + 2 * q, 1 + 6 * p))
    close(bounds("sparse", a0=[np.full((4, 1), 0.3)], p=0.2, q=0.4), (3, 1))  # 1 where the draw is below the rate


def test_the_loss_mixes_as_equation_3_says():
    """β = 1/4 of cap-ibp and 3/4 of ibp on the hand network; L(s) = log(1 + eˢ) with two classes; κ = 1/5 clean."""
    net, ball, y = hand()
    out = rb.robust_loss(net, ball, y, "cap-ibp", beta=0.25, kappa=0.2)
    s = np.array([0.25 * 4.25 + 0.75 * 4, 0.25 * 2.1 + 0.75 * 3])
    clean = np.array([2, -2])  # (z1, z2, z3, z4) = (1, 0, 0, 1), so h3 = 0, h4 = 1
    close(net(ball.x), [[1, 3], [1, 3]])
    close(other_margins(out.margins, y), s)
    close(out.logits, net(ball.x))
    close(out.value, np.mean(0.8 * np.log1p(np.exp(s)) + 0.2 * np.log1p(np.exp(clean))))


# ---- the pieces of the loss ----

def test_cross_entropy_is_minus_the_log_softmax():
    z, y = draws().normal(size=(7, 5)), draws().integers(0, 5, 7)
    s = (margin_matrix(y, 5, float) * z).sum(-1)
    close(cross_entropy(s), np.log(np.exp(z).sum(1)) - z[np.arange(7), y])
    close(cross_entropy(np.array([[-1e4, 1e4, 0.0, 800.0]])), [0, 1e4, np.log(2), 800])
    close(cross_entropy_vjp(np.ones(4), np.array([[-1e4, 1e4, 0.0, 800.0]])), [[0, 1, 0.5, 1]])
    far = np.array([[-37.0], [-40.0]], np.float32)  # 1 + exp(−37) is 1 in float32, and its logarithm 0
    np.testing.assert_allclose(cross_entropy(far), np.exp(far).sum(0), rtol=1e-6)


def test_the_margin_matrix_takes_differences_with_the_label():
    z, y = draws().normal(size=(4, 4)), np.arange(4)
    s = with_true_class((margin_matrix(y, 4, float) * z).sum(-1), y)
    assert (s[np.arange(4), y] == 0).all()
    close(s, z - z[np.arange(4), y][:, None])


def test_the_median_draw_is_picked_and_draws_that_tie_share_it():
    """Four draws for two units of one example: sizes 1 3 2 4, whose upper median is 3; and 5 1 5 5, where three tie."""
    size = np.array([[1, 5], [3, 1], [2, 5], [4, 5]], np.float32).reshape(1, 4, 1, 2)
    picked = upper_median(size)
    assert picked.dtype == size.dtype
    np.testing.assert_allclose(picked[0, :, 0].T, [[0, 1, 0, 0], [1 / 3, 0, 1 / 3, 1 / 3]], rtol=1e-6)


def test_certified_says_that_every_other_margin_bound_is_negative():
    s, y = np.array([[0, -1.0, -2], [-1, 0, 1e-9], [0, 0, -1], [-1, -1, 0]]), np.array([0, 1, 0, 2])
    assert rb.certified(s, y).tolist() == [True, False, False, True]


@pytest.mark.parametrize("name, parameters", [
    ("mlp", 784*100 + 100 + 100*100 + 100 + 100*10 + 10),
    ("small", 16*16 + 16 + 32*256 + 32 + 32*7*7*100 + 100 + 100*10 + 10),
    ("dm_small", 16*16 + 16 + 32*256 + 32 + 32*13*13*100 + 100 + 100*10 + 10),
    ("dm_small_valid", 16*16 + 16 + 32*256 + 32 + 32*10*10*100 + 100 + 100*10 + 10),
    ("dm_medium", 32*9 + 32 + 32*512 + 32 + 64*288 + 64 + 64*1024 + 64
     + 64*7*7*512 + 512 + 512*512 + 512 + 512*10 + 10),
    ("dm_medium_valid", 32*9 + 32 + 32*512 + 32 + 64*288 + 64 + 64*1024 + 64
     + 64*4*4*512 + 512 + 512*512 + 512 + 512*10 + 10),
    ("wide", 16*9 + 16 + 16*256 + 16 + 32*144 + 32 + 32*512 + 32 + 32*7*7*256 + 256 + 256*256 + 256 + 256*10 + 10),
    ("dm_large", 64*9 + 64 + 64*576 + 64 + 128*576 + 128 + 2*(128*1152 + 128) + 128*14*14*512 + 512 + 512*10 + 10)])
def test_the_named_networks_have_as_many_parameters_as_their_layers_say(name, parameters):
    """Weights and biases, by layer; the pictures before the first dense layer of dm_… are 13, 10, 7, 4 and 14 wide."""
    # as published, where they are
    assert parameters == {"small": 166406, "dm_small_valid": 329606, "dm_medium_valid": 893418}.get(name, parameters)
    net = rb.models.MODELS[name](draws())
    assert sum(p.size for p in net.params.values()) == parameters and net.dtype == np.float32


@pytest.mark.parametrize("name", ["small", "dm_small", "dm_medium", "dm_large", "wide"])
@pytest.mark.parametrize("shape", [(3, 12, 10), (1, 9, 9)])
def test_the_named_networks_take_any_input_shape(name, shape):
    net = rb.models.MODELS[name](draws(), input_shape=shape, classes=4)
    assert net(np.zeros((2, *shape), np.float32)).shape == (2, 4)


@pytest.mark.parametrize("name, sizes", [
    ("small", [14, 7]), ("wide", [28, 14, 14, 7]), ("dm_small", [14, 13]), ("dm_small_valid", [13, 10]),
    ("dm_medium", [28, 14, 14, 7]), ("dm_medium_valid", [26, 12, 10, 4]), ("dm_large", [28, 28, 14, 14, 14])])
def test_the_pictures_after_each_convolution_of_a_named_network_are_so_wide(name, sizes):
    net = rb.models.MODELS[name](draws())
    assert [net.shapes[i + 1][1:] for i, layer in net.affine if layer.kind == "conv2d"] == [(n, n) for n in sizes]
