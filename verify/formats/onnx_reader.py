"""An ONNX graph as a Network: a chain of nodes from one input to one output, each a layer or folded into one.

onnx_operators.py says which. Constants are initialisers and what nodes make of constants and of shapes alone; onnx's
own reference evaluator computes them. All else is a ValueError that names the file, the node and its operator.
"""

import math

import numpy as np

import refbound as rb
from refbound.layers import Flatten

from . import optional, reason
from .onnx_operators import FOLDED, NO_BORDER, OPERATORS, UNKNOWN, require

LARGEST = 10**6  # numbers that a node may make of a shape
LEAST_OPSET = 7  # before it, Add and its kin align their inputs by attributes


def read_onnx(path):
    """The Network of an .onnx file; ValueError in one line for what is not one, or holds what a Network cannot."""
    onnx = optional("onnx", "onnx", "ONNX")
    try:
        model = onnx.load(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf and onnx raise their own classes on foreign bytes
        raise ValueError(f"{path}: not an ONNX file: {reason(error)}") from None
    try:
        with np.errstate(all="ignore"):  # what overflows is refused by the network, which is of finite numbers
            return _network(model, onnx)
    except Exception as error:  # a foreign graph may be wrong in any way, and so raise anything
        raise ValueError(f"{path}: {reason(error)}") from None


def _network(model, onnx):
    graph, opsets = model.graph, {"ai.onnx" if not o.domain else o.domain: o.version for o in model.opset_import}
    require(opsets.get("ai.onnx", 0) >= LEAST_OPSET, f"operators of opset {LEAST_OPSET} or later, got {opsets}")
    require(not model.functions, "nodes of the standard operators, got functions of the model's own")
    constants = {tensor.name: _array(tensor, onnx) for tensor in graph.initializer}
    require(len(constants) == len(graph.initializer), "initialisers of different names")
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(f"expected a graph of one input and one output, got {len(inputs)} and {len(graph.output)}")
    kind = inputs[0].type.tensor_type
    floats = [getattr(onnx.TensorProto, name) for name in ("FLOAT16", "BFLOAT16", "FLOAT", "DOUBLE")]
    require(kind.elem_type in floats, f"an input of floats, got {onnx.TensorProto.DataType.Name(kind.elem_type)}")
    chain = Chain(inputs[0].name, [dim.dim_value for dim in kind.shape.dim], kind.elem_type, constants)
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = model.ir_version, dict.fromkeys(("", "ai.onnx"), opsets["ai.onnx"])
    for index, node in enumerate(graph.node):
        try:
            take(chain, node, context, onnx)
        except Exception as error:
            raise ValueError(f"node {node.name or f'#{index}'} ({node.op_type}): {reason(error)}") from None
    require(chain.at == graph.output[0].name,
            f"the output {graph.output[0].name!r} at the end of the chain, got {chain.at!r}")
    return chain.network(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


def _array(tensor, onnx):
    try:
        return onnx.numpy_helper.to_array(tensor)
    except Exception as error:
        raise ValueError(f"initialiser {tensor.name}: {reason(error)}") from None


def take(chain, node, context, onnx):
    """One node more: of constants and shapes alone, or of the chain's end."""
    given = [name for name in node.input if name]
    data = [name for name in given if name not in chain.constants]
    unknown = [name for name in data if name not in chain.shapes]
    folded = not data or node.op_type == "Shape"
    known = FOLDED if folded else OPERATORS
    require(node.domain in ("", "ai.onnx"), f"an operator of ONNX itself, got one of {node.domain}")
    require(not unknown,
            f"inputs that are initialisers or outputs of nodes before, got {', '.join(map(repr, unknown))}")
    require(node.op_type in known, f"one of {', '.join(known)}{' of constants' * folded}: others are not supported")
    onnx.checker.check_node(node, context)
    require(node.output[0] not in {*chain.shapes, *chain.constants}, f"an output of a new name, got {node.output[0]!r}")
    if not folded:
        step(chain, node, given, data, onnx)
        return
    values = {name: np.broadcast_to(np.float32(0), chain.shapes[name]) if name in data else chain.constants[name]
              for name in given}
    if node.op_type == "ConstantOfShape":
        shape = values[given[0]]
        require(shape.ndim == 1 and math.prod(shape.tolist()) <= LARGEST, f"a shape of at most {LARGEST} numbers")
    chain.constants[node.output[0]] = evaluate(node, values, context.opset_imports, onnx)
    if data or chain.sizes & set(given):
        chain.sizes.add(node.output[0])


def step(chain, node, given, data, onnx):
    """A node of what the chain puts out, and of constants."""
    require(node.op_type == "Dropout" or len(node.output) == 1, f"one output, as in inference, got {list(node.output)}")
    require(data == [chain.at], f"the output of the node before, {chain.at!r}, and constants, got {list(node.input)}")
    first = node.input[0] == chain.at
    require(first or node.op_type in ("Add", "Sub", "Mul", "Max"), "constants only after the data")
    require(node.op_type == "Reshape" or not chain.sizes & set(given), "shapes of the data only in a Reshape")
    constants = [chain.constants.get(name) for name in node.input if name != chain.at]
    there = [c for c in constants if c is not None]
    require(all(np.isfinite(c).all() for c in there), "finite constants")
    kinds = {onnx.helper.np_dtype_to_tensor_dtype(c.dtype) for c in there}
    require(node.op_type in ("Reshape", "Dropout", "Squeeze", "Unsqueeze", "Pad") or kinds <= {chain.kind},
            "constants of the type of the input")
    operator, attributes = node.op_type, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if operator == "Sub" and not first:  # c − x = −x + c
        OPERATORS["Neg"](chain, {})
        operator = "Add"
    require(chain.border == NO_BORDER or operator in ("Conv", "Pad"), "a convolution after a Pad")
    OPERATORS[operator](chain, attributes, *constants)
    chain.at = node.output[0]
    chain.shapes[chain.at] = (chain.batch, *chain.padded())


def evaluate(node, values, opsets, onnx):
    """What onnx's reference evaluator computes of a node's constant inputs {name: array}."""
    from onnx.reference import ReferenceEvaluator

    graph = onnx.GraphProto(node=[node])
    for name in values:
        graph.input.add().name = name
    graph.output.add().name = node.output[0]
    return np.asarray(ReferenceEvaluator(graph, opsets=opsets).run(None, values)[0])


class Chain:
    """The network so far.

    at            the name of what it puts out; shapes, of all that it has put out, with the batch
    shape         of what it puts out, in the network; units, the numbers of these units as they stand in the graph
    scale, shift  (units,) in the network's order: x ↦ scale x + shift, for the affine layer that comes next
    border        zeros that a Pad put around the image
    sizes         the names of constants that depend on the shapes of the data
    """

    def __init__(self, name, dims, kind, constants):
        fixed = len(dims) > 1 and min(dims[1:]) > 0 and dims[0] >= 0
        require(fixed, f"an input of a batch axis and fixed sizes after it, got {name!r} {dims}")
        self.at, self.kind, self.batch, self.constants, self.sizes = name, kind, dims[0] or UNKNOWN, constants, set()
        self.layers, self.params, self.shapes, self.border = [], {}, {name: (self.batch, *dims[1:])}, NO_BORDER
        self.input_shape = tuple(dims[1:])
        self.put_out(self.input_shape)

    def put_out(self, shape):
        """What a new layer puts out: its units in their order, without arithmetic after it."""
        n = math.prod(shape)
        self.shape, self.units, self.scale, self.shift = shape, np.arange(n).reshape(shape), np.ones(n), np.zeros(n)

    def padded(self):
        """The shape of what it puts out with its border, as the graph has it."""
        if self.border == NO_BORDER:
            return self.units.shape
        return (self.shape[0], *(n + a + b for n, a, b in zip(self.shape[1:], *self.border)))

    def arrange(self, units):
        """The units in another shape or order. A vector is made of an image by a Flatten."""
        if units.ndim == 1:
            self.layers += [Flatten()] * (len(self.shape) == 3)
            self.shape = units.shape
        self.units = units

    def take_image(self):
        """Units that are an image to the next layer; at the input they may just be named one, or have channels last."""
        if not self.layers and len(self.input_shape) == 3 and self.input_shape[2] < min(5, *self.input_shape[:2]):
            first = np.arange(self.units.size).reshape(self.input_shape).transpose(2, 0, 1)
            if np.array_equal(self.units, first):
                self.scale, self.shift = self.scale[first.reshape(-1)], self.shift[first.reshape(-1)]
                self.units = np.arange(first.size).reshape(first.shape)
        natural = (self.units.reshape(-1) == np.arange(self.units.size)).all()
        if not self.layers and natural:
            self.shape = self.input_shape = self.units.shape
        require(natural and self.units.shape == self.shape,
                f"an image in the order of the layer before it, {self.shape}")

    def add(self, layer, W, bias):
        """An affine layer, whose bias broadcasts to what it puts out; arithmetic before it is in it."""
        self.put_out(layer.at(self.shape)[1])
        i = len(self.layers)
        self.params[f"{i}.weight"], self.params[f"{i}.bias"] = W, self.alike(self.in_order(bias), len(W))
        self.layers.append(layer)

    def in_order(self, values):
        """Constants that broadcast to the graph's shape here, (units,) in the network's order."""
        try:
            full = np.broadcast_to(values, (1, *self.units.shape))
        except ValueError:
            raise ValueError(
                f"expected constants that broadcast to {self.units.shape}, got {np.shape(values)}") from None
        return full.reshape(-1)[np.argsort(self.units, None)]

    def alike(self, values, n):
        """One number for each of n channels, of values (units,) that are the same all over a channel."""
        full = values.reshape(n, -1)
        require((full == full[:, :1]).all(), "constants that are alike all over a channel")
        return full[:, 0]

    def require_no_arithmetic(self):
        require((self.scale == 1).all() and (self.shift == 0).all(), "an affine layer after arithmetic with constants")

    def network(self, dtype):
        """The Network. What is not an image is a vector.

        In the input's dtype, half precision in float32; but in float64 if folding made numbers that this does not hold.
        """
        self.require_no_arithmetic()
        require(self.border == NO_BORDER, "a convolution after a Pad")
        require(self.params, "an affine layer, got none")
        ordered = self.units.ndim == 1 and (np.diff(self.units) == 1).all()
        require(ordered, "an output (batch, classes) in the order of the last layer, "
                         f"got (batch, {str(self.units.shape)[1:]}")
        shape = self.input_shape if len(self.input_shape) == 3 else (math.prod(self.input_shape),)
        if len(shape) == 3 and shape[2] == 1 < min(shape[:2]) and isinstance(self.layers[0], Flatten):
            shape = (1, *shape[:2])  # the channel stands last
        dtype = np.promote_types(dtype, np.float32)
        if any((value.astype(dtype) != value).any() for value in self.params.values()):
            dtype = np.float64
        return rb.Network(
            self.layers, {name: value.astype(dtype, order="C") for name, value in self.params.items()}, shape)
