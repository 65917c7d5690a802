"""The networks of the paper and its neighbours, with random parameters.

Weights and biases are drawn from U(−1/√fan_in, 1/√fan_in), PyTorch's default for both layers. Every network takes a
numpy Generator first, works for any input shape (C, H, W) and number of classes (`mlp` by its widths), and is on the
host. `for_intervals` draws the weights of any of them anew.
"""

import numpy as np

from . import checks
from .layers import Conv2d, Flatten, Linear, ReLU
from .network import Network


def initialise(rng, layers, input_shape, dtype):
    """A network of these layers with parameters drawn in order from rng."""
    checks.generator(rng, "parameters are drawn")
    params = {}
    for i, layer in enumerate(layers):
        if isinstance(layer, (Linear, Conv2d)):
            bound = 1 / np.sqrt(np.prod(layer.weight_shape[1:]))
            params[f"{i}.weight"] = rng.uniform(-bound, bound, layer.weight_shape).astype(dtype)
            params[f"{i}.bias"] = rng.uniform(-bound, bound, layer.weight_shape[:1]).astype(dtype)
    return Network(layers, params, input_shape)


def for_intervals(rng, net):
    """The network with the weights of all affine layers but the last drawn from N(0, 2π / fan_in²); the rest stays.

    Shi et al. (2021), "Fast certified robust training with short warmup". As |W| is 2 / fan_in in the mean, an affine
    layer doubles the mean radius of a box. As (−W, −bias) is as likely as (W, bias), [−u, −l] is as [l, u], and a ReLU
    halves it: (u⁺ − l⁺) + ((−l)⁺ − (−u)⁺) = u − l. So at every ReLU it is twice the input's; less at padding.
    """
    checks.generator(rng, "weights are drawn")
    params = dict(net.params)
    for i, layer in net.affine[:-1]:
        W = params[f"{i}.weight"]
        params[f"{i}.weight"] = rng.normal(0, np.sqrt(2 * np.pi) / np.prod(layer.weight_shape[1:]),
                                           W.shape).astype(W.dtype)
    return net.with_params(params)


def mlp(rng, widths=(784, 100, 100, 10), input_shape=None, dtype=np.float32):
    """Linear layers of these widths with ReLU between; inputs (N, widths[0]), or images with `input_shape`."""
    layers = [] if input_shape is None else [Flatten()]
    for i, (n, m) in enumerate(zip(widths, widths[1:])):
        layers += [ReLU()] * (i > 0) + [Linear(n, m)]
    return initialise(rng, layers, (widths[0],) if input_shape is None else input_shape, dtype)


def convnet(rng, convolutions, dense, input_shape, classes, dtype):
    """Convolutions (channels, kernel, stride, padding), then dense layers of these widths, ReLU after each."""
    layers, shape = [], tuple(input_shape)
    for channels, kernel, stride, padding in convolutions:
        layers += [Conv2d(shape[0], channels, kernel, stride, padding), ReLU()]
        _, shape = layers[-2].at(shape)
    width = int(np.prod(shape))
    layers += [Flatten()]
    for n in dense:
        layers += [Linear(width, n), ReLU()]
        width = n
    return initialise(rng, layers + [Linear(width, classes)], input_shape, dtype)


def small(rng, input_shape=(1, 28, 28), classes=10, dtype=np.float32):
    """Wong and Kolter (2018)."""
    return convnet(rng, [(16, 4, 2, 1), (32, 4, 2, 1)], [100], input_shape, classes, dtype)


def wide(rng, input_shape=(1, 28, 28), classes=10, dtype=np.float32):
    """Wong et al. (2018) "large": conv 32, 32 s2, 64, 64 s2 halved to 16, 16, 32, 32, then fc 256, 256."""
    return convnet(rng, [(16, 3, 1, 1), (16, 4, 2, 1), (32, 3, 1, 1), (32, 4, 2, 1)], [256, 256],
                   input_shape, classes, dtype)


def dm_small(rng, input_shape=(1, 28, 28), classes=10, dtype=np.float32):
    """Gowal et al. (2018), small, but with padding; the second convolution has stride 1."""
    return convnet(rng, [(16, 4, 2, 1), (32, 4, 1, 1)], [100], input_shape, classes, dtype)


def dm_medium(rng, input_shape=(1, 28, 28), classes=10, dtype=np.float32):
    """Gowal et al. (2018), medium, but with padding; the paper's shallow CIFAR-10 network."""
    return convnet(rng, [(32, 3, 1, 1), (32, 4, 2, 1), (64, 3, 1, 1), (64, 4, 2, 1)], [512, 512],
                   input_shape, classes, dtype)


def dm_small_valid(rng, input_shape=(1, 28, 28), classes=10, dtype=np.float32):
    """Gowal et al. (2018), small, as released: no padding ("VALID"), 329,606 parameters on MNIST."""
    return convnet(rng, [(16, 4, 2, 0), (32, 4, 1, 0)], [100], input_shape, classes, dtype)


def dm_medium_valid(rng, input_shape=(1, 28, 28), classes=10, dtype=np.float32):
    """Gowal et al. (2018), medium, as released: no padding, 893,418 parameters on MNIST."""
    return convnet(rng, [(32, 3, 1, 0), (32, 4, 2, 0), (64, 3, 1, 0), (64, 4, 2, 0)], [512, 512],
                   input_shape, classes, dtype)


def dm_large(rng, input_shape=(1, 28, 28), classes=10, dtype=np.float32):
    """Gowal et al. (2018), large, padded in the release too ("SAME"); the paper's MNIST network."""
    return convnet(rng, [(64, 3, 1, 1), (64, 3, 1, 1), (128, 3, 2, 1), (128, 3, 1, 1), (128, 3, 1, 1)], [512],
                   input_shape, classes, dtype)


MODELS = {"mlp": mlp, "small": small, "wide": wide, "dm_small": dm_small, "dm_medium": dm_medium, "dm_large": dm_large,
          "dm_small_valid": dm_small_valid, "dm_medium_valid": dm_medium_valid}
