"""Networks in and out: this project's .npz, ONNX, and PyTorch state dicts, by the files' endings.

    python -m verify.exchange IN OUT [--architecture FILE] [--input-shape 1 28 28]

    .npz         read and written (a run folder is read too: its best network)
    .onnx        read as formats/onnx_operators.py says; written with opset 13, one node a layer
    .pt, .pth    a state_dict, written with the names of this project's file, which are those of an nn.Sequential
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import refbound as rb
from refbound.layers import Affine, Conv2d, Flatten, Linear, ReLU
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .formats import optional
from .formats.load import load_any
from .formats.state_dict import read_torch

TORCH, OPSET, IR_VERSION = (".pt", ".pth"), 13, 8
NODES = {  # layer -> its ONNX operator and attributes
    Linear: lambda it: ("Gemm", {"transB": 1}), ReLU: lambda it: ("Relu", {}), Flatten: lambda it: ("Flatten", {}),
    Conv2d: lambda it: ("Conv", {"kernel_shape": it.kernel_size, "strides": it.stride, "pads": it.padding * 2}),
}


@dataclass
class Args:
    """Converts a network from one file format to another, by the files' endings: .npz, .onnx, .pt or .pth."""

    source: str = argument("", "the file to read, or a run folder", positional=True)
    target: str = argument("", "the file to write", positional=True, type=arguments.file)
    architecture: str = argument(None, "of a state_dict: a JSON list of layers, or a network file", type=str)
    input_shape: tuple = argument((), "of a state_dict, such as 1 28 28 (default: that of the architecture)", type=int)


def main(argv=None):
    """Reads one file and writes the other, by their endings."""
    args = arguments.parse(Args, "verify.exchange", argv)
    torch = Path(args.source).suffix.lower() in TORCH
    if Path(args.target).suffix.lower() not in (".npz", ".onnx", *TORCH):
        raise ValueError(f"{args.target}: expected a name that ends in .npz, .onnx, .pt or .pth")
    if torch:
        net = read_torch(args.source, args.architecture, args.input_shape)
    elif args.architecture or args.input_shape:
        raise ValueError(f"--architecture, --input-shape: expected with a .pt or .pth file, got {args.source}")
    else:
        net = load_any(args.source)
    save_any(net, args.target)
    guessed = torch and not args.architecture
    assumed = " and ".join(dict.fromkeys(
        layer.kind for layer in net.layers if not isinstance(layer, Affine))) or "nothing"
    print(f"{args.target}: {describe(net)}"
          + f" ({assumed} assumed: a state_dict does not say what stands between)" * guessed)


def save_any(net, path):
    """Writes a network in the format that the name ends in, whole or not at all."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        rb.save(net, path)
    elif suffix == ".onnx":
        checkpoint.write(path, to_onnx(net).SerializeToString())
    else:
        buffer = io.BytesIO()
        torch = optional("torch", "peers", "PyTorch")
        torch.save({name: torch.from_numpy(np.array(value)) for name, value in net.params.items()}, buffer)
        checkpoint.write(path, buffer.getvalue())


def describe(net):
    """A network in a few words: its shapes from layer to layer, the layers that are not affine by name."""
    shapes = ["×".join(map(str, shape)) for shape in net.shapes]
    steps = (shape if isinstance(layer, Affine) else layer.kind for layer, shape in zip(net.layers, shapes[1:]))
    parameters = sum(value.size for value in net.params.values())
    return f"{' → '.join((shapes[0], *steps))}, {parameters:,} parameters, {net.dtype}"


def to_onnx(net):
    """The ModelProto of a network: input "x" (N, *input_shape), output "logits" (N, c), a node for each layer."""
    onnx = optional("onnx", "onnx", "ONNX")
    make, nodes, at = onnx.helper, [], ["x", *(f"h{i}" for i in range(1, len(net.layers))), "logits"]
    for i, layer in enumerate(net.layers):
        operator, attributes = NODES[type(layer)](layer)
        weights = [f"{i}.weight", f"{i}.bias"] if isinstance(layer, Affine) else []
        nodes.append(make.make_node(operator, [at[i], *weights], [at[i + 1]], name=f"layer {i}", **attributes))
    kind = make.np_dtype_to_tensor_dtype(net.dtype)
    graph = make.make_graph(nodes, "refbound", [make.make_tensor_value_info("x", kind, ["N", *net.input_shape])],
                            [make.make_tensor_value_info("logits", kind, ["N", net.classes])],
                            [onnx.numpy_helper.from_array(np.array(value), name) for name, value in net.params.items()])
    return make.make_model(graph, producer_name="refbound", ir_version=IR_VERSION,
                           opset_imports=[make.make_opsetid("", OPSET)])


if __name__ == "__main__":
    arguments.run(main)
