"""Networks in and out: this project's .npz, ONNX, and PyTorch state dicts, by the files' endings.

    python -m verify.exchange IN OUT [--architecture FILE] [--input-shape 1 28 28]

    .npz         read and written (a run folder is read too: its best network)
    .onnx        read by onnx_reader.py, which says what it knows; written with opset 13, one node a layer
    .pt, .pth    a state_dict, written with the names of this project's file, which are those of an nn.Sequential

A state_dict holds no architecture. Linear layers alone are read as they stand: a ReLU wherever the numbers of two layers
leave room for it. Convolutions need --architecture, a JSON list of layers or a network file, for strides and paddings.
Needs the packages onnx and torch only for their own files.
"""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import refbound as rb
from refbound.layers import Affine, Conv2d, Flatten, Linear, ReLU, from_spec
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .onnx_reader import import_onnx, read_onnx

OPSET, IR_VERSION = 13, 8
TORCH = (".pt", ".pth")


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
    if Path(args.target).suffix not in (".npz", ".onnx", *TORCH):
        raise ValueError(f"{args.target}: expected a name that ends in .npz, .onnx, .pt or .pth")
    if Path(args.source).suffix in TORCH:
        net = read_torch(args.source, args.architecture, args.input_shape)
    elif args.architecture or args.input_shape:
        raise ValueError(f"--architecture, --input-shape: expected with a .pt or .pth file, got {args.source}")
    else:
        net = load_any(args.source)
    save_any(net, args.target)
    guessed = Path(args.source).suffix in TORCH and not args.architecture
    print(f"{args.target}: {describe(net)}" + " (relu assumed: a state_dict does not say what stands between)" * guessed)


def load_any(path):
    """The Network of an .npz or .onnx file or of a run folder; ValueError names the file and what is wrong with it."""
    if Path(path).suffix in TORCH:
        raise ValueError(f"{path}: a state_dict holds no architecture; convert it with python -m verify.exchange first")
    return read_onnx(path) if Path(path).suffix == ".onnx" else checkpoint.load_model(path)[0]


def as_the_run(args):
    """Sets args.eps, no_clip and data_dir, where they were not given, to those of the run that args.model names.

    ValueError if the run is of another norm than l∞ or of other data than MNIST's kind, or if there is no ε.
    """
    given = checkpoint.read_config(args.model)["arguments"] if Path(args.model).is_dir() else {}
    for name, value in {"norm": "inf", "data": "mnist"}.items():
        if given.get(name, value) != value:
            raise ValueError(f"{args.model}: expected a run of --{name} {value}, got one of {given[name]}")
    for name, default in {"eps": None, "no_clip": False, "data_dir": None}.items():
        if getattr(args, name) is None:
            setattr(args, name, given.get(name, default))
    if args.eps is None:
        raise ValueError("--eps: a network file does not say its ε; expected --eps with a number")


def save_any(net, path):
    """Writes a network in the format that the name ends in, whole or not at all."""
    if Path(path).suffix == ".npz":
        rb.save(net, path)
    elif Path(path).suffix == ".onnx":
        checkpoint.write(path, to_onnx(net).SerializeToString())
    else:
        buffer = io.BytesIO()
        torch = import_torch()
        torch.save({name: torch.from_numpy(np.array(value)) for name, value in net.params.items()}, buffer)
        checkpoint.write(path, buffer.getvalue())


def describe(net):
    """A network in a few words: its shapes from layer to layer, the layers that are not affine by name."""
    names = {ReLU: "relu", Flatten: "flatten"}
    steps = (names.get(type(layer)) or "×".join(map(str, shape)) for layer, shape in zip(net.layers, net.shapes[1:]))
    units = " → ".join(("×".join(map(str, net.input_shape)), *steps))
    return f"{units}, {sum(value.size for value in net.params.values()):,} parameters, {net.dtype}"


# ---- ONNX ----

def to_onnx(net):
    """The ModelProto of a network: input "x" (N, *input_shape), output "logits" (N, c), a node for each layer."""
    onnx = import_onnx()
    make, nodes, at = onnx.helper, [], "x"
    for i, layer in enumerate(net.layers):
        out = "logits" if i == len(net.layers) - 1 else f"h{i + 1}"
        operator, attributes = _node(layer)
        weights = [f"{i}.weight", f"{i}.bias"] if isinstance(layer, Affine) else []
        nodes.append(make.make_node(operator, [at, *weights], [out], name=f"layer {i}", **attributes))
        at = out
    kind = make.np_dtype_to_tensor_dtype(net.dtype)
    graph = make.make_graph(nodes, "refbound", [make.make_tensor_value_info("x", kind, ["N", *net.input_shape])],
                            [make.make_tensor_value_info("logits", kind, ["N", net.classes])],
                            [onnx.numpy_helper.from_array(np.array(value), name) for name, value in net.params.items()])
    return make.make_model(graph, producer_name="refbound", ir_version=IR_VERSION,
                           opset_imports=[make.make_opsetid("", OPSET)])


def _node(layer):
    """The ONNX operator of a layer, and its attributes."""
    if isinstance(layer, Linear):
        return "Gemm", {"transB": 1}
    if isinstance(layer, Conv2d):
        return "Conv", {"kernel_shape": layer.kernel_size, "strides": layer.stride, "pads": layer.padding * 2}
    return {ReLU: "Relu", Flatten: "Flatten"}[type(layer)], {}


# ---- PyTorch ----

def import_torch():
    """The package; ValueError that says how to get it if it is not installed."""
    try:
        import torch
    except ImportError:
        raise ValueError("PyTorch files need the package torch, which is not installed "
                         "(pip install 'refbound[peers]')") from None
    return torch


def read_torch(path, architecture=None, input_shape=()):
    """The Network of a state_dict: of this architecture (a path), or of Linear layers with ReLU between.

    Its weights and biases are taken in their order, whatever the modules are called. Opened with weights_only=True:
    no code in the file is run.
    """
    torch = import_torch()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, pickle and torch raise their own classes on foreign bytes, and texts of many lines
        raise ValueError(f"{path}: expected a state_dict, as torch.save(model.state_dict(), FILE) writes it; "
                         f"this cannot be read as one ({type(error).__name__})") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        held = ", ".join(map(repr, state)) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path}: expected a state_dict, names of tensors alone, got {held}")
    arrays = {name: value.detach().numpy() for name, value in state.items()}
    try:
        pairs = _pairs(arrays)
        layers, shape = _read_architecture(architecture) if architecture else _infer(pairs, input_shape)
        indices = [i for i, layer in enumerate(layers) if isinstance(layer, Affine)]
        if len(indices) != len(pairs):
            raise ValueError(f"expected {len(indices)} affine layers, as the architecture has, got {len(pairs)}: "
                             f"{', '.join(pairs)}")
        params = {f"{i}.{kind}": value for i, pair in zip(indices, pairs.values())
                  for kind, value in zip(("weight", "bias"), pair)}
        if not input_shape and not shape:
            raise ValueError("the architecture does not say the input's shape; expected --input-shape")
        return rb.Network(layers, params, input_shape or shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _pairs(arrays):
    """{module: (weight, bias)} in the order of the state_dict; a missing bias is 0."""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
    for name in arrays:
        if name.rpartition(".")[2] not in ("weight", "bias") or f"{name.rpartition('.')[0]}.weight" not in arrays:
            raise ValueError(f"{name}: expected weights and biases of Linear and Conv2d layers only")
    weights = {module: arrays[f"{module}.weight"] for module in modules}
    return {module: (W, arrays.get(f"{module}.bias", np.zeros(len(W), W.dtype))) for module, W in weights.items()}


def _infer(pairs, input_shape):
    """Layers and input shape of a Sequential of Linear layers: numbered 0, 1 without a ReLU between, else with one."""
    layers, before = [], None
    for module, (W, _) in pairs.items():
        if W.ndim not in (2, 4):
            raise ValueError(f"{module}.weight: expected that of a Linear or Conv2d layer, got shape {W.shape}")
        if W.ndim != 2:
            raise ValueError(f"{module}.weight: a state_dict holds no strides and paddings; expected --architecture")
        number = module.rpartition(".")[2]
        number = int(number) if number.isdecimal() else None
        if layers and (None in (number, before) or number - before != 1):
            layers.append(ReLU())
        layers.append(Linear(*W.shape[::-1]))
        before = number
    if not layers:
        raise ValueError("expected weights, got none")
    features = (layers[0].in_features,)
    image = len(input_shape) > 1 and math.prod(input_shape) == features[0]
    return [Flatten()] * image + layers, features


def _read_architecture(path):
    """Layers and input shape, () if it does not say, from a JSON file or a network file."""
    if Path(path).suffix == ".npz":
        net = rb.load(path)
        return list(net.layers), net.input_shape
    try:
        spec = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(spec, list) or not spec:
        raise ValueError(f"{path}: expected a JSON list of layers, got {type(spec).__name__}")
    layers = [from_spec(entry) for entry in spec]
    return layers, (layers[0].in_features,) if isinstance(layers[0], Linear) else ()


if __name__ == "__main__":
    arguments.run(main)
