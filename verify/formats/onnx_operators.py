"""The operators of ONNX that a Network can hold: each is a function of (chain, attributes, the constant inputs).

    Gemm, MatMul         Linear     transA = 0, the weights constant
    Conv                 Conv2d     two-dimensional, group 1, dilations 1, symmetric pads
    Relu                 ReLU
    Flatten, Reshape     Flatten    axis 1; a Reshape of the input to an image only names its shape
    Add, Sub             a constant, after an affine layer: into its bias
    Add, Sub, Mul, Div   a constant, on the input: x ↦ a x + b, computed in float64. The layer behind it takes it into its
                         weights, W a and bias + W b, rounded once; where padding, which is 0 after such arithmetic,
                         forbids that, it becomes a 1 × 1 convolution
    Identity, Dropout    nothing
"""

import math

import numpy as np

from refbound.layers import Conv2d, Flatten, Linear, ReLU

from .normalisation import into_convolution


def require(condition, expected):
    """ValueError that says what was expected, unless the condition holds."""
    if not condition:
        raise ValueError(f"expected {expected}")


def gemm(chain, attributes, B, C=None):
    """z = α W x + β C, W = B or its transpose, of the input as it enters. A MatMul is one without attributes."""
    require(not attributes.get("transA", 0), f"transA = 0, got {attributes.get('transA')}")
    W = B if attributes.get("transB", 0) else B.T
    alpha, beta = (W.dtype.type(attributes.get(name, 1)) for name in ("alpha", "beta"))
    require(C is None or C.size in (1, len(W)), f"a bias of {len(W)} numbers, got {np.shape(C)}")
    W, bias = alpha * W, W.dtype.type(0) if C is None else beta * C
    require(W.ndim == 2 and len(chain.shape) == 1, f"a matrix and a vector, got {W.shape} and {chain.shape}")
    layer = Linear(*W.shape[::-1])
    layer.at(chain.shape)
    if not chain.params:
        W, bias = (W * chain.scale).astype(W.dtype), (bias + W @ chain.shift).astype(W.dtype)
    chain.add(layer, W, bias)


def conv(chain, attributes, W, bias=None):
    """A convolution; arithmetic on the input goes into it, or before padding becomes a 1×1 convolution of its own."""
    require(W.ndim == 4 and len(chain.shape) == 3, f"a kernel (out, in, kh, kw) and an image, got {W.shape} and {chain.shape}")
    pads, group = list(attributes.get("pads", (0, 0, 0, 0))), attributes.get("group", 1)
    require(attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"), "auto_pad NOTSET or VALID")
    require(pads[:2] == pads[2:], f"symmetric pads, got {pads}")
    require(group == 1, f"group 1, got {group}")
    require(set(attributes.get("dilations", (1,))) == {1}, f"dilations 1, got {attributes.get('dilations')}")
    layer = Conv2d(W.shape[1], W.shape[0], W.shape[2:], tuple(attributes.get("strides", (1, 1))), tuple(pads[:2]))
    layer.at(chain.shape)
    bias = np.zeros(len(W), W.dtype) if bias is None else bias
    if not chain.params and ((chain.scale != 1).any() or (chain.shift != 0).any()):
        C = chain.shape[0]
        scale, shift = (chain.per_row(values, C) for values in (chain.scale, chain.shift))
        if folded := into_convolution(scale, shift, W, bias, pads):
            W, bias = folded
        else:
            chain.add(Conv2d(C, C, 1), np.diag(scale.astype(W.dtype)).reshape(C, C, 1, 1), shift.astype(W.dtype)[:, None, None])
    chain.add(layer, W, bias.reshape(-1, 1, 1))


def relu(chain, attributes):
    """max(x, 0)."""
    chain.require_plain_input()
    chain.layers.append(ReLU())


def flatten(chain, attributes):
    """An image into a vector, channels first; nothing to do for a vector."""
    axis = attributes.get("axis", 1)
    require(axis in (1, -len(chain.shape)), f"axis 1, got {axis}")
    if len(chain.shape) == 3:
        chain.layers.append(Flatten())
    chain.shape, chain.scale, chain.shift = (math.prod(chain.shape),), chain.scale.reshape(-1), chain.shift.reshape(-1)


def reshape(chain, attributes, shape):
    """As a flattening, or at the input as the shape of its image."""
    target, n = [int(k) for k in np.reshape(shape, -1)], math.prod(chain.shape)
    if target[:1] in ([0], [1], [-1]) and target[1:] in ([n], [-1]):
        flatten(chain, {})
        return
    image = not chain.layers and len(target) == 4 and min(target[1:]) > 0 and math.prod(target[1:]) == n
    require(image, f"a flattening, or the shape of an image at the input, got {target} for {chain.shape}")
    chain.shape = chain.input_shape = tuple(target[1:])
    chain.scale, chain.shift = chain.scale.reshape(chain.shape), chain.shift.reshape(chain.shape)


def arithmetic(chain, factor, offset):
    """x ↦ factor x + offset, on the input; or an offset after an affine layer."""
    bias = f"{len(chain.layers) - 1}.bias"
    if bias in chain.params and factor is None:
        chain.params[bias] = chain.params[bias] + chain.per_row(offset, len(chain.params[bias]))
        return
    require(not chain.params and ReLU() not in chain.layers, "the input or, for Add and Sub, an affine layer before it")
    try:
        factor, offset = (np.broadcast_to(v, (1, *chain.shape))[0] for v in (1.0 if factor is None else factor, offset))
    except ValueError:
        raise ValueError(f"expected a constant that broadcasts to {chain.shape}") from None
    chain.scale, chain.shift = chain.scale * factor, chain.shift * factor + offset


def reciprocal(c):
    """1 / c, of a divisor."""
    require((c != 0).all(), "a divisor without zeros")
    return 1 / c.astype(float)


def nothing(chain, attributes, ratio=None, training=None):
    """Identity, and dropout in inference."""
    require(not training, "inference, training_mode = 0")


OPERATORS = {
    "Gemm": gemm, "MatMul": gemm, "Conv": conv, "Relu": relu, "Flatten": flatten, "Reshape": reshape,
    "Add": lambda chain, attributes, c: arithmetic(chain, None, c),
    "Sub": lambda chain, attributes, c: arithmetic(chain, None, -c),
    "Mul": lambda chain, attributes, c: arithmetic(chain, c.astype(float), 0.0),
    "Div": lambda chain, attributes, c: arithmetic(chain, reciprocal(c), 0.0),
    "Identity": nothing, "Dropout": nothing,
}


def constant(operator, inputs, attributes):
    """The value of a node that has only constant inputs."""
    if operator == "Constant":
        require(any(name.startswith("value") for name in attributes), "a dense value")
        return np.asarray(next(value for name, value in attributes.items() if name.startswith("value")))
    require(operator in ("Identity", "Transpose"), "Identity or Transpose where all inputs are constant")
    return inputs[0] if operator == "Identity" else inputs[0].transpose(attributes.get("perm"))
