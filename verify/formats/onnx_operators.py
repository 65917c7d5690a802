"""The operators of ONNX that a Network can hold: each is a function of (chain, attributes, the constant inputs).

    Gemm, MatMul                   Linear     transA = 0, the weights constant
    Conv                           Conv2d     two-dimensional; groups, dilations and uneven pads are zeros in its kernel
    Pad                            zeros around an image, for the convolution that comes next
    Relu, Clip, Max                ReLU       where they are max(x, 0)
    Flatten, Reshape, Transpose,   a vector made of an image is a Flatten, channels first. Where a graph has its units
    Squeeze, Unsqueeze             in another order, the columns of the dense layer that comes next are put in this one.
                                   An image at the input whose channels stand last is taken channels first
    Add, Sub, Neg, Mul, Div,       with constants: x ↦ a x + b. An affine layer before it takes it in, as a W and
    BatchNormalization             a bias + b; else the next one does, as W a and bias + W b, but before a convolution
                                   with padding, which is 0 after such arithmetic, b ≠ 0 makes a 1 × 1 convolution
    Identity, Dropout, Cast        nothing

All is computed in float64, where a product of two float32s is exact, and kept so if the input's type does not hold it.
"""

import math

import numpy as np

from refbound.layers import Conv2d, Linear, ReLU

MOST_PADS = 1000  # on one side
NO_BORDER = [0, 0], [0, 0]  # zeros before and after the rows and columns of an image
FOLDED = ("Constant", "Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Gather", "Slice",
          "Shape", "ConstantOfShape", "Add", "Sub", "Mul", "Div", "Neg", "Sqrt",
          "ReduceL2")  # these may also make constants of constants


def require(condition, expected):
    """ValueError that says what was expected, unless the condition holds."""
    if not condition:
        raise ValueError(f"expected {expected}")


def gemm(chain, attributes, B, C=None):
    """z = α W x + β C, W = B or its transpose. A MatMul is one without attributes."""
    require(not attributes.get("transA", 0), f"transA = 0, got {attributes.get('transA')}")
    require(B.ndim == 2 and chain.units.ndim == 1, f"a matrix and a vector, got {B.shape} and {chain.units.shape}")
    W = (B if attributes.get("transB", 0) else B.T).astype(float) * attributes.get("alpha", 1)
    require(C is None or C.size in (1, len(W)), f"a bias of {len(W)} numbers, got {np.shape(C)}")
    layer = Linear(*W.shape[::-1])
    layer.at(chain.units.shape)
    W, bias = W[:, np.argsort(chain.units)], 0.0 if C is None else C.astype(float) * attributes.get("beta", 1)
    chain.add(layer, W * chain.scale, bias + W @ chain.shift)


def conv(chain, attributes, W, bias=None):
    """A convolution; arithmetic before it is in its weights, or where padding forbids it a 1×1 one of its own."""
    chain.take_image()
    require(W.ndim == 4 and len(chain.shape) == 3,
            f"a kernel (out, in, kh, kw) and an image, got {W.shape} and {chain.shape}")
    kernel, strides = attributes.get("kernel_shape"), tuple(attributes.get("strides", (1, 1)))
    require(kernel is None or tuple(kernel) == W.shape[2:], f"kernel_shape {W.shape[2:]}, as the weights, got {kernel}")
    W = spread(W, attributes.get("group", 1), attributes.get("dilations", (1, 1)))
    before, after = padding(chain.padded()[1:], W.shape[2:], strides, attributes)
    before, after = ([a + b for a, b in zip(*pair)] for pair in zip((before, after), chain.border))
    chain.border = NO_BORDER
    pads = tuple(map(max, before, after))
    require(max(pads) <= MOST_PADS, f"at most {MOST_PADS} rows or columns of padding, got {max(pads)}")
    W = np.pad(W, ((0, 0), (0, 0), *((p - a, p - b) for p, a, b in zip(pads, before, after))))
    layer = Conv2d(W.shape[1], W.shape[0], W.shape[2:], strides, pads)
    layer.at(chain.shape)
    W, C = W.astype(float), W.shape[1]
    scale, shift = chain.alike(chain.scale, C), chain.alike(chain.shift, C)
    if any(pads) and shift.any():
        chain.add(Conv2d(C, C, 1), np.diag(scale).reshape(C, C, 1, 1), shift.reshape(C, 1, 1))
        scale, shift = np.ones(C), np.zeros(C)
    bias = np.zeros(len(W)) if bias is None else bias
    require(bias.shape == W.shape[:1], f"a bias of {len(W)} numbers, got {bias.shape}")
    chain.add(layer, W * scale[:, None, None], (bias + W.sum((2, 3)) @ shift).reshape(-1, 1, 1))


def pad(chain, attributes, pads=None, value=None, axes=None):
    """Zeros around an image."""
    pads, value = np.asarray(attributes.get("pads", pads)), attributes.get("value", 0.0 if value is None else value)
    axes, sides = np.arange(4) if axes is None else axes + 4 * (axes < 0), np.zeros((2, 4), int)
    require(attributes.get("mode", b"constant") == b"constant" and np.size(value) == 1 and np.all(value == 0),
            "a constant of 0")
    require(chain.units.ndim == 3, f"an image, got {chain.units.shape}")
    require(axes.ndim == 1 and axes.dtype == np.int64 and len({*axes.tolist()} & {*range(4)}) == axes.size,
            f"different axes of an image in int64, got {axes.dtype} {axes.tolist()}")
    require(pads.dtype == np.int64 and pads.shape == (2 * axes.size,),
            f"two pads in int64 for each of {axes.size} axes, got {pads.dtype} {pads.shape}")
    sides[:, axes] = pads.reshape(2, -1)
    require(sides.min() >= 0 and not sides[:, :2].any(),
            f"pads of at least 0, of rows and columns, got {pads.tolist()}")
    if not sides.any():
        return
    chain.take_image()
    chain.border = tuple([a + b for a, b in zip(*pair)] for pair in zip(chain.border, sides[:, 2:].tolist()))


def spread(W, group, dilations):
    """The kernel of a convolution in groups, or a dilated one, with zeros in between."""
    out, C, *kernel = W.shape
    require(group > 0 and out % group == 0, f"{out} kernels in equal groups, got {group}")
    require(len(dilations) == 2 and min(dilations) > 0, f"two dilations, got {dilations}")
    full = np.zeros((out, group * C, *((k - 1) * d + 1 for k, d in zip(kernel, dilations))), W.dtype)
    for g in range(group):
        here = slice(g * out // group, (g + 1) * out // group)
        full[here, g * C:(g + 1) * C, ::dilations[0], ::dilations[1]] = W[here]
    return full


def padding(image, kernel, strides, attributes):
    """How many zeros stand before each axis of the image, and how many after it."""
    mode, pads = attributes.get("auto_pad", b"NOTSET"), attributes.get("pads", (0, 0, 0, 0))
    if mode.startswith(b"SAME"):
        more = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(image, kernel, strides)]
        halves = [n // 2 for n in more], [n - n // 2 for n in more]
        return halves if mode == b"SAME_UPPER" else halves[::-1]
    require(len(pads) == 4 and min(pads) >= 0, f"four pads of at least 0, got {pads}")
    return ([0, 0], [0, 0]) if mode == b"VALID" else (pads[:2], pads[2:])


def relu(chain, attributes):
    """max(x, 0)."""
    chain.require_no_arithmetic()
    chain.layers.append(ReLU())


def clip(chain, attributes, low=None, high=None):
    """max(x, 0) as a Clip."""
    low, high = attributes.get("min", low), attributes.get("max", high)
    most = np.finfo(np.float32).max
    require(low is not None and low == 0 and (high is None or high >= most), f"0 and no max, got {low} and {high}")
    relu(chain, attributes)


def maximum(chain, attributes, c):
    """max(x, 0) as a Max."""
    require(c.size == 1 and (c == 0).all() and c.ndim <= chain.units.ndim + 1, f"0, got constants of shape {c.shape}")
    relu(chain, attributes)


def flatten(chain, attributes):
    """An image into a vector; nothing to do for a vector."""
    axis = attributes.get("axis", 1)
    require(axis in (1, -chain.units.ndim), f"axis 1, got {axis}")
    chain.arrange(chain.units.reshape(-1))


def reshape(chain, attributes, shape):
    """The units of each example in another shape; never those of several in one."""
    require(not (attributes.get("allowzero", 0) and 0 in shape), "a shape without 0, or allowzero = 0")
    require(shape.dtype == np.int64 and shape.ndim == 1, f"a vector of int64, got {shape.dtype} {shape.shape}")
    full, n = (chain.batch, *chain.units.shape), chain.units.size
    target = [full[i] if size == 0 and i < len(full) else size for i, size in enumerate(shape.tolist())]
    rest, known = target[1:], math.prod(size for size in target[1:] if size != -1)
    batch = (chain.batch, -1, *[1] * (chain.batch == UNKNOWN and known == n))  # [1, n]: a graph for one image at a time
    fits = rest and min(rest) >= -1 and target.count(-1) < 2 and target[0] in batch and known and n % known == 0
    fits = fits and (-1 in rest or known == n)
    require(fits, f"a shape of the batch and {n} numbers, got {shape.tolist()} for {chain.units.shape}")
    chain.arrange(chain.units.reshape(rest))


def transpose(chain, attributes):
    """The axes of each example in another order."""
    perm = list(attributes.get("perm", range(chain.units.ndim, -1, -1)))
    require(perm[0] == 0 and sorted(perm) == list(range(chain.units.ndim + 1)),
            f"a perm that starts with 0, got {perm}")
    chain.arrange(chain.units.transpose([axis - 1 for axis in perm[1:]]))


def squeeze(chain, attributes, axes=None):
    """Without these axes of size 1."""
    chain.arrange(np.squeeze(chain.units, each(attributes, axes, chain.units.ndim)))


def unsqueeze(chain, attributes, axes=None):
    """With these axes more, of size 1."""
    more = np.size(attributes.get("axes", axes))
    chain.arrange(np.expand_dims(chain.units, each(attributes, axes, chain.units.ndim + more)))


def each(attributes, axes, n):
    """The axes given, which are of the batch and n more, among those n."""
    axes = np.asarray(attributes.get("axes", axes))
    require(axes.dtype == np.int64 and axes.ndim == 1, f"a vector of axes in int64, got {axes.dtype} {axes.shape}")
    axes = [axis + (n + 1) * (axis < 0) for axis in axes.tolist()]
    require(all(0 < axis <= n for axis in axes), f"axes of each example, got {axes}")
    return tuple(axis - 1 for axis in axes)


def arithmetic(chain, factor, offset):
    """x ↦ factor x + offset, into the affine layer before it, or for the one that comes next."""
    factor, offset = chain.in_order(np.asarray(factor, float)), chain.in_order(np.asarray(offset, float))
    name = f"{len(chain.layers) - 1}"
    if f"{name}.weight" not in chain.params:
        chain.scale, chain.shift = chain.scale * factor, chain.shift * factor + offset
        return
    W, bias = chain.params[f"{name}.weight"], chain.params[f"{name}.bias"]
    factor, offset = chain.alike(factor, len(W)), chain.alike(offset, len(W))
    chain.params[f"{name}.weight"] = W * factor.reshape(-1, *[1] * (W.ndim - 1))
    chain.params[f"{name}.bias"] = bias * factor + offset


def batch_normalization(chain, attributes, scale, bias, mean, var):
    """x ↦ s (x − mean) / √(var + ε) + bias of each channel."""
    require(not attributes.get("training_mode", 0) and attributes.get("spatial", 1),
            "training_mode = 0 and spatial = 1")
    require({v.shape for v in (scale, bias, mean, var)} == {chain.units.shape[:1]},
            f"{chain.units.shape[0]} numbers of each kind")
    var = var.astype(float) + attributes.get("epsilon", 1e-5)
    require((var > 0).all(), "var + epsilon > 0")
    factor = scale / np.sqrt(var)
    column = (-1, *[1] * (chain.units.ndim - 1))
    arithmetic(chain, factor.reshape(column), (bias - mean * factor).reshape(column))


def reciprocal(c):
    """1 / c, of a divisor."""
    require((c != 0).all(), "a divisor without zeros")
    return 1 / c.astype(float)


def cast(chain, attributes):
    """To the type that the data has."""
    require(attributes.get("to") == chain.kind, "a cast to the type of the input")


def nothing(chain, attributes, ratio=None, training=None):
    """Identity, and dropout in inference."""
    require(not training and np.ndim(ratio) == 0, "a ratio, and inference: training_mode = 0")


UNKNOWN = 2**31 - 1  # stands for a batch of any size where a graph computes with shapes; no array is of that size
OPERATORS = {
    "Gemm": gemm, "MatMul": gemm, "Conv": conv, "Pad": pad, "Relu": relu,
    "Clip": clip, "Max": maximum,
    "Flatten": flatten, "Reshape": reshape, "Transpose": transpose, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Add": lambda chain, attributes, c: arithmetic(chain, 1.0, c),
    "Sub": lambda chain, attributes, c: arithmetic(chain, 1.0, -c),
    "Neg": lambda chain, attributes: arithmetic(chain, -1.0, 0.0),
    "Mul": lambda chain, attributes, c: arithmetic(chain, c, 0.0),
    "Div": lambda chain, attributes, c: arithmetic(chain, reciprocal(c), 0.0),
    "BatchNormalization": batch_normalization, "Identity": nothing, "Dropout": nothing, "Cast": cast,
}
