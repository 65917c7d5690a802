"""The three products of an affine layer: what a convolution is, and that each product is the adjoint that it claims."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refbound.arrays.ops import correlate_adjoint, images, rows, scatter, windows
from refbound.layers import Conv2d, Flatten, Linear

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
paddings = st.tuples(st.integers(0, 2), st.integers(0, 2))


@st.composite
def convolutions(draw):
    """A Conv2d at its place on a small image, of any kernel, stride and padding that fits."""
    shape = (draw(st.sampled_from([1, 3, 8])), *draw(st.tuples(st.integers(2, 6), st.integers(2, 6))))
    k, s, p = draw(pairs), draw(pairs), draw(paddings)
    assume(all(n + 2 * b >= a for n, a, b in zip(shape[1:], k, p)))
    return Conv2d(shape[0], draw(st.integers(1, 3)), k, s, p).at(shape)[0]


def convolve(layer, W, x):
    """By definition, z[o, i, j] = Σ W[o, c, a, b] x[c, s i + a − p, s j + b − p], x (N, C, H, W) 0 outside."""
    (_, _, H, Wd), (sh, sw), (ph, pw) = x.shape, layer.stride, layer.padding
    z = np.zeros((len(x), len(W), *layer.window.out))
    for o, i, j in np.ndindex(z.shape[1:]):
        for c, a, b in np.ndindex(W.shape[1:]):
            row, col = sh * i + a - ph, sw * j + b - pw
            if 0 <= row < H and 0 <= col < Wd:
                z[:, o, i, j] += W[o, c, a, b] * x[:, c, row, col]
    return z


def random_triple(layer, lead=(), N=2):
    """W, x and a g at the layer's output, of whole numbers: every product is exact, and so is every comparison."""
    rng = np.random.default_rng(0)
    W = rng.integers(-9, 10, layer.weight_shape).astype(float)
    return (W, rng.integers(-9, 10, (*lead, N, layer.units)).astype(float),
            rng.integers(-9, 10, (*lead, N, len(W) * layer.positions)).astype(float))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(convolutions())
def test_a_convolution_is_its_sum_over_the_kernel(layer):
    W, x, _ = random_triple(layer)
    (H, Wd, C), out = layer.window.shape, (len(W), *layer.window.out)
    np.testing.assert_array_equal(images(layer.apply(W, layer.patches(x)), out),
                                  convolve(layer, W, images(x, (C, H, Wd))))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(convolutions())
def test_scatter_is_the_adjoint_of_windows(layer):
    _, x, _ = random_triple(layer, lead=(3,))
    X = windows(x, layer.window)
    Y = np.random.default_rng(1).integers(-9, 10, X.shape).astype(float)
    assert (X * Y).sum() == (x * scatter(Y, layer.window)).sum()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(convolutions(), st.sampled_from([(), (3,), (2, 3)]))
def test_the_adjoint_of_a_convolution_is_its_adjoint(layer, lead):
    """By its phases, and scattered."""
    W, x, g = random_triple(layer, lead)
    columns = np.tensordot(g.reshape(*g.shape[:-1], *layer.window.out, -1), W.transpose((0, 2, 3, 1)), 1)
    for back in layer.adjoint(W, g), correlate_adjoint(W, g, layer.window), scatter(columns, layer.window):
        assert back.shape == x.shape
        assert (g * layer.apply(W, layer.patches(x))).sum() == (back * x).sum()
        np.testing.assert_array_equal(back, scatter(columns, layer.window))


@pytest.mark.parametrize("layer, shape", [
    (Conv2d(3, 2, 4, 2, 1), (3, 6, 6)),    # as in `small`
    (Conv2d(3, 2, 3, 1, 1), (3, 5, 5)),
    (Conv2d(3, 2, 3, 2, 1), (3, 6, 6)),    # the kernel is no multiple of the stride
    (Conv2d(3, 2, 2, 2, 0), (3, 5, 5)),    # the last row and column are never seen
    (Conv2d(3, 2, 1, 3, 0), (3, 6, 6)),    # most are never seen
    (Conv2d(3, 2, 1, 1, 2), (3, 3, 3)),    # outputs that see padding alone
])
def test_the_adjoint_at_the_border(layer, shape):
    layer = layer.at(shape)[0]
    W, x, g = random_triple(layer)
    for back in layer.adjoint(W, g), correlate_adjoint(W, g, layer.window):
        assert (g * layer.apply(W, layer.patches(x))).sum() == (back * x).sum()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.one_of(convolutions(), st.builds(Linear, st.integers(1, 5), st.integers(1, 5))), st.sampled_from([(), (3,)]))
def test_outer_is_the_gradient_in_the_weights_and_the_bias_products_are_its_like(layer, lead):
    W, x, g = random_triple(layer, lead)
    bias = np.arange(1.0, 1 + len(W))

    def product(W, bias):
        return anp.sum(g * (layer.apply(W, layer.patches(x)) + layer.per_unit(bias)))

    dW, dbias = autograd.grad(product, (0, 1))(W, bias)
    np.testing.assert_array_equal(layer.outer(g, layer.patches(x)), dW)
    np.testing.assert_array_equal(layer.bias_gradient(g), dbias)
    assert (g * layer.apply(W, layer.patches(x))).sum() == (layer.adjoint(W, g) * x).sum()
    one = g[..., :1, :]  # a linear function that all examples share
    np.testing.assert_array_equal(layer.outer(one, layer.patches(x)),
                                  layer.outer(one + 0 * g, layer.patches(x)))


def test_flatten_puts_channels_first_and_restore_takes_it_back():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    layer, shape = Flatten().at((3, 4, 5))
    z = rows(x, (3, 4, 5))
    assert shape == (60,) and (z[:, :3] == x[:, :, 0, 0]).all()
    np.testing.assert_array_equal(layer.reorder(z), x.reshape(2, 60))
    np.testing.assert_array_equal(layer.restore(layer.reorder(z)), z)
    np.testing.assert_array_equal(images(z, (3, 4, 5)), x)
