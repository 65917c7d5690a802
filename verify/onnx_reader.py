"""An ONNX graph as a Network: a chain of nodes from one input to one output, each turned into a layer or folded into one.

    Gemm, MatMul         Linear     transA = 0, the weights constant
    Conv                 Conv2d     two-dimensional, group 1, dilations 1, symmetric pads
    Relu                 ReLU
    Flatten, Reshape     Flatten    axis 1; a Reshape of the input to an image only names its shape
    Add, Sub             a constant, after an affine layer: into its bias
    Add, Sub, Mul, Div   a constant, on the input: x ↦ a x + b, computed in float64. A dense layer takes it into its weights,
                         W a and bias + W b, rounded once; before a convolution, whose padding is 0 after such arithmetic, it
                         becomes a 1 × 1 convolution
    Identity, Dropout    nothing

Constants are initialisers, Constant nodes, and Identity or Transpose of constants. Everything else is a ValueError that
names the file, the node and its operator. `onnx` is an extra, and imported where it is needed.
"""

import math

import numpy as np

import refbound as rb
from refbound.layers import Affine, Conv2d, Flatten, Linear, ReLU


def import_onnx():
    """The package; ValueError that says how to get it if it is not installed."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise ValueError("ONNX files need the package onnx, which is not installed (pip install 'refbound[onnx]')") from None
    return onnx


def read_onnx(path):
    """The Network of an .onnx file; ValueError in one line for what is not one, or holds what a Network cannot."""
    onnx = import_onnx()
    try:
        graph = onnx.load(path).graph
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf and onnx raise their own classes on foreign bytes
        raise ValueError(f"{path}: not an ONNX file: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    try:
        return _network(graph, constants, onnx)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _network(graph, constants, onnx):
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(f"expected a graph of one input and one output, got {len(inputs)} and {len(graph.output)}")
    chain = Chain(inputs[0].name, [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim], constants)
    for index, node in enumerate(graph.node):
        try:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if "value" in attributes:
                attributes["value"] = onnx.numpy_helper.to_array(attributes["value"])
            chain.take(node, attributes)
        except ValueError as error:
            raise ValueError(f"node {node.name or f'#{index}'} ({node.op_type}): {error}") from None
    require(chain.at == graph.output[0].name, f"the output {graph.output[0].name!r} at the end of the chain, got {chain.at!r}")
    return chain.network()


def require(condition, expected):
    """ValueError that says what was expected, unless the condition holds."""
    if not condition:
        raise ValueError(f"expected {expected}")


class Chain:
    """The network so far: its layers, their weights and biases, the name and the shape of what it puts out."""

    def __init__(self, name, dims, constants):
        require(len(dims) > 1 and min(dims[1:]) > 0, f"an input of a batch axis and fixed sizes after it, got {name!r} {dims}")
        self.at, self.seen, self.constants, self.layers, self.weights = name, {name}, constants, [], []
        self.shape = self.input_shape = tuple(dims[1:])
        self.scale, self.shift = np.ones(self.shape), np.zeros(self.shape)  # of the input: x ↦ scale x + shift

    def take(self, node, attributes):
        """One node more."""
        given = [name for name in node.input if name]
        if all(name in self.constants for name in given):
            self.constants[node.output[0]] = constant(node.op_type, [self.constants[name] for name in given], attributes)
            return
        require(node.op_type in OPERATORS, f"one of {', '.join(OPERATORS)}: others are not supported")
        data = [name for name in given if name not in self.constants]
        unknown = [name for name in data if name not in self.seen]
        require(not unknown, f"inputs that are initialisers or outputs of nodes before, got {', '.join(map(repr, unknown))}")
        require(data == [self.at], f"the output of the node before, {self.at!r}, and constants, got {list(node.input)}")
        require(node.input[0] == self.at or node.op_type in ("Add", "Mul"), "constants only after the data")
        OPERATORS[node.op_type](self, attributes, *(self.constants.get(name) for name in node.input if name != self.at))
        self.at = node.output[0]
        self.seen.add(self.at)

    def network(self):
        """The Network, of the widest dtype of its weights. What is not an image is a vector."""
        self.require_plain_input()
        require(self.weights, "an affine layer, got none")
        params, dtype = {}, np.result_type(*(W.dtype for W, _ in self.weights))
        for i, (W, bias) in zip((i for i, layer in enumerate(self.layers) if isinstance(layer, Affine)), self.weights):
            params[f"{i}.weight"], params[f"{i}.bias"] = W.astype(dtype), bias.astype(dtype)
        shape = self.input_shape if len(self.input_shape) == 3 else (math.prod(self.input_shape),)
        return rb.Network(self.layers, params, shape)

    def add(self, layer, W, bias):
        """An affine layer, whose bias broadcasts to what it puts out."""
        _, self.shape = layer.at(self.shape)
        self.layers.append(layer)
        self.weights.append((W, self.per_row(bias, len(W))))

    def per_row(self, values, n):
        """Constants that broadcast to the shape here and are alike in each of n channels, (n,)."""
        require(np.isfinite(values).all(), "finite constants")
        try:
            full = np.broadcast_to(values, (1, *self.shape)).reshape(n, -1)
        except ValueError:
            raise ValueError(f"expected constants that broadcast to {self.shape}, got {np.shape(values)}") from None
        require((full == full[:, :1]).all(), "constants that are alike all over a channel")
        return full[:, 0]

    def require_plain_input(self):
        require((self.scale == 1).all() and (self.shift == 0).all(), "an affine layer after arithmetic on the input")


# ---- the operators: (chain, attributes, the constant inputs) ----

def gemm(chain, attributes, B, C=None):
    """z = α W x + β C, W = B or its transpose."""
    require(not attributes.get("transA", 0), f"transA = 0, got {attributes.get('transA')}")
    W = B if attributes.get("transB", 0) else B.T
    alpha, beta = (W.dtype.type(attributes.get(name, 1)) for name in ("alpha", "beta"))
    require(C is None or C.size in (1, len(W)), f"a bias of {len(W)} numbers, got {np.shape(C)}")
    linear(chain, alpha * W, W.dtype.type(0) if C is None else beta * C)


def matmul(chain, attributes, B):
    """z = Bᵀ x."""
    linear(chain, B.T, B.dtype.type(0))


def linear(chain, W, bias):
    """z = W x + bias, W (out, in), of the input as it enters."""
    require(W.ndim == 2 and len(chain.shape) == 1, f"a matrix and a vector, got {W.shape} and {chain.shape}")
    layer = Linear(*W.shape[::-1])
    layer.at(chain.shape)
    if not chain.weights:
        W, bias = (W * chain.scale).astype(W.dtype), (bias + W @ chain.shift).astype(W.dtype)
        chain.scale, chain.shift = np.ones(1), np.zeros(1)
    chain.add(layer, W, bias)


def conv(chain, attributes, W, bias=None):
    """A convolution; arithmetic on the input before it becomes a 1×1 convolution of its own."""
    require(W.ndim == 4 and len(chain.shape) == 3, f"a kernel (out, in, kh, kw) and an image, got {W.shape} and {chain.shape}")
    pads, group = list(attributes.get("pads", (0, 0, 0, 0))), attributes.get("group", 1)
    require(attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"), "auto_pad NOTSET or VALID")
    require(pads[:2] == pads[2:], f"symmetric pads, got {pads}")
    require(group == 1, f"group 1, got {group}")
    require(set(attributes.get("dilations", (1,))) == {1}, f"dilations 1, got {attributes.get('dilations')}")
    if not chain.weights and ((chain.scale != 1).any() or (chain.shift != 0).any()):
        C = chain.shape[0]
        scale, shift = chain.per_row(chain.scale, C).astype(W.dtype), chain.shift.astype(W.dtype)
        chain.add(Conv2d(C, C, 1), np.diag(scale).reshape(C, C, 1, 1), shift)
        chain.scale, chain.shift = np.ones(1), np.zeros(1)
    layer = Conv2d(W.shape[1], W.shape[0], W.shape[2:], tuple(attributes.get("strides", (1, 1))), tuple(pads[:2]))
    chain.add(layer, W, np.zeros((len(W), 1, 1), W.dtype) if bias is None else bias.reshape(-1, 1, 1))


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
    if chain.layers and isinstance(chain.layers[-1], Affine) and factor is None:
        W, bias = chain.weights[-1]
        chain.weights[-1] = W, bias + chain.per_row(offset, len(W))
        return
    require(not chain.weights and ReLU() not in chain.layers, "the input or, for Add and Sub, an affine layer before it")
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
    "Gemm": gemm, "MatMul": matmul, "Conv": conv, "Relu": relu, "Flatten": flatten, "Reshape": reshape,
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
