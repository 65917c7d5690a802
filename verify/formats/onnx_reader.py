"""An ONNX graph as a Network: a chain of nodes from one input to one output, each a layer or folded into one.

onnx_operators.py says which. Constants are initialisers, Constant nodes, and Identity or Transpose of constants. All
else is a ValueError that names the file, the node and its operator.
"""

import math

import numpy as np

import refbound as rb

from . import optional
from .onnx_operators import OPERATORS, constant, require


def read_onnx(path):
    """The Network of an .onnx file; ValueError in one line for what is not one, or holds what a Network cannot."""
    onnx = optional("onnx", "onnx", "ONNX")
    try:
        graph = onnx.load(path).graph
        constants = {tensor.name: widened(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf and onnx raise their own classes on foreign bytes
        raise ValueError(f"{path}: not an ONNX file: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    try:
        return _network(graph, constants, onnx)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def widened(array):
    """float16 and bfloat16 as float32, which holds all their numbers: a Network is of float32 or float64."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 and array.dtype.kind in "fV" else array


def _network(graph, constants, onnx):
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(f"expected a graph of one input and one output, got {len(inputs)} and {len(graph.output)}")
    chain = Chain(inputs[0].name, [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim], constants)
    for index, node in enumerate(graph.node):
        try:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if "value" in attributes:
                attributes["value"] = widened(onnx.numpy_helper.to_array(attributes["value"]))
            chain.take(node, attributes)
        except ValueError as error:
            raise ValueError(f"node {node.name or f'#{index}'} ({node.op_type}): {error}") from None
    require(chain.at == graph.output[0].name, f"the output {graph.output[0].name!r} at the end of the chain, got {chain.at!r}")
    return chain.network()


class Chain:
    """The network so far: its layers and parameters, the name and the shape of what it puts out."""

    def __init__(self, name, dims, constants):
        require(len(dims) > 1 and min(dims[1:]) > 0, f"an input of a batch axis and fixed sizes after it, got {name!r} {dims}")
        self.at, self.seen, self.constants, self.layers, self.params = name, {name}, constants, [], {}
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
        require(self.params, "an affine layer, got none")
        dtype = np.result_type(*(value.dtype for name, value in self.params.items() if name.endswith("weight")))
        shape = self.input_shape if len(self.input_shape) == 3 else (math.prod(self.input_shape),)
        return rb.Network(self.layers, {name: value.astype(dtype) for name, value in self.params.items()}, shape)

    def add(self, layer, W, bias):
        """An affine layer, whose bias broadcasts to what it puts out; arithmetic on the input is in it."""
        _, self.shape = layer.at(self.shape)
        i, self.scale, self.shift = len(self.layers), np.ones(1), np.zeros(1)
        self.params[f"{i}.weight"], self.params[f"{i}.bias"] = W, self.per_row(bias, len(W))
        self.layers.append(layer)

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
