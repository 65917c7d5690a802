"""A PyTorch state_dict as a Network. It holds no architecture: one is given, or it is of Linear layers alone."""

import json
import math
import re
import zipfile
from pathlib import Path

import numpy as np

import refbound as rb
from refbound.layers import Affine, Flatten, Linear, ReLU
from refbound.network import from_spec

from . import optional, reason
from .load import load_any


def read_torch(path, architecture=None, input_shape=()):
    """The Network of a state_dict: of this architecture (a path), or a Sequential of Linear layers with ReLU between.

    Its weights and biases are taken in their order, whatever the modules are called. Of a checkpoint, its one entry
    `state_dict` or `model_state_dict`. Opened with weights_only=True: no code in the file is run.
    """
    torch = optional("torch", "peers", "PyTorch")
    state, keys = _opened(path, torch), {}
    try:
        _check_names(list(state))
        pairs = _pairs({name: _array(name, value, torch) for name, value in state.items()})
        layers, shape = _read_architecture(architecture) if architecture else _infer(pairs, input_shape)
        indices = [i for i, layer in enumerate(layers) if isinstance(layer, Affine)]
        if len(indices) != len(pairs):
            raise ValueError(f"expected {len(indices)} affine layers, as the architecture has, got {len(pairs)}: "
                             f"{', '.join(pairs)}")
        params = {f"{i}.{kind}": value for i, pair in zip(indices, pairs.values())
                  for kind, value in zip(("weight", "bias"), pair)}
        for i, module in zip(indices, pairs):
            keys |= {f"layer {i}": module, f"{i}.weight": f"{module}.weight", f"{i}.bias": f"{module}.bias"}
        if not input_shape and not shape:
            raise ValueError("the architecture does not say the input's shape; expected --input-shape")
        return rb.Network(layers, params, input_shape or shape)
    except OSError:  # of the architecture's file
        raise
    except Exception as error:  # a foreign state_dict may be wrong in any way; the network's names become the file's
        name, *rest = reason(error).split(": ", 1)
        raise ValueError(": ".join([f"{path}", keys.get(name, name), *rest])) from None


def _opened(path, torch):
    """{name: tensor} of the file."""
    try:
        if zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():  # torch looks at no checksum
            raise zipfile.BadZipFile
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, pickle and torch raise their own classes on foreign bytes, and many-line texts
        raise ValueError(f"{path}: expected a state_dict, as torch.save(model.state_dict(), FILE) writes it; "
                         f"this cannot be read as one ({type(error).__name__})") from None
    if isinstance(state, dict):
        state = state.get("state_dict", state.get("model_state_dict", state))
    if isinstance(state, list) and len(state) == 1:  # as Wong and Kolter's code saves it
        [state] = state
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected a state_dict, names of tensors alone, got {type(state).__name__}")
    if others := [key for key, value in state.items()
                  if not (isinstance(key, str) and isinstance(value, torch.Tensor))]:
        raise ValueError(f"{path}: expected a state_dict, names of tensors alone, got {', '.join(map(repr, others))}")
    return state


def _array(name, value, torch):
    """A tensor as an array, half precision as float32, which holds the same numbers."""
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if value.dtype not in floats or value.layout != torch.strided or value.device.type != "cpu":
        raise ValueError(f"{name}: expected a dense tensor of floats, "
                         f"got {value.dtype}, {value.layout}, {value.device}")
    return (value.float() if value.dtype in (torch.float16, torch.bfloat16) else value).detach().numpy()


def _check_names(names):
    """ValueError unless they are of weights and biases, as far as can be seen in the order of the network."""
    for name in names:
        if name.rpartition(".")[2] not in ("weight", "bias") or f"{name.rpartition('.')[0]}.weight" not in names:
            raise ValueError(f"{name}: expected weights and biases of Linear and Conv2d layers only; a network with "
                             "others, such as batch normalisation, is read from its ONNX file")
    modules, last = dict.fromkeys(name.rpartition(".")[0] for name in names), {}
    for module in modules:
        pattern, numbers = re.sub(r"\d+", "#", module), [int(number) for number in re.findall(r"\d+", module)]
        if numbers and numbers <= last.get(pattern, []):
            raise ValueError(f"{module}: expected layers in the order of the network, got this after number "
                             f"{last[pattern][-1]}, as if sorted by name")
        last[pattern] = numbers
    if len(last) > 1 and names == sorted(names) and any(name.endswith(".bias") for name in names):
        raise ValueError("keys sorted by name, which does not say the order of "
                         f"{', '.join(modules)}; expected a state_dict as the model itself gives it")


def _pairs(arrays):
    """{module: (weight, bias)} in the order of the state_dict; a missing bias is 0."""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
    if other := [name for name, value in arrays.items() if value.dtype != next(iter(arrays.values())).dtype]:
        raise ValueError(f"{other[0]}: expected {next(iter(arrays.values())).dtype} as before, "
                         f"got {arrays[other[0]].dtype}")
    weights = {module: arrays[f"{module}.weight"] for module in modules}
    for module, W in weights.items():
        if W.ndim not in (2, 4):
            raise ValueError(f"{module}.weight: expected that of a Linear or Conv2d layer, got shape {W.shape}")
    return {module: (W, arrays.get(f"{module}.bias", np.zeros(len(W), W.dtype))) for module, W in weights.items()}


def _infer(pairs, input_shape):
    """Layers and input shape of one Sequential of Linear layers, with a ReLU where its numbers leave out some."""
    for module, (W, _) in pairs.items():
        if W.ndim != 2:
            raise ValueError(f"{module}.weight: a state_dict holds no strides and paddings; expected --architecture")
    if not pairs:
        raise ValueError("expected weights, got none")
    parents, numbers = zip(*(module.rpartition(".")[::2] for module in pairs))
    gaps = [int(b) - int(a) for a, b in zip(numbers, numbers[1:])] if all(map(str.isdecimal, numbers)) else [0]
    if len(set(parents)) > 1 or min(gaps, default=2) < 2:  # next to one another, as in a ModuleList: anything between
        raise ValueError(f"{', '.join(pairs)}: names that do not say what stands between the layers; "
                         "expected --architecture")
    layers = [layer for W, _ in pairs.values() for layer in (ReLU(), Linear(*W.shape[::-1]))][1:]
    features = (layers[0].in_features,)
    image = len(input_shape) > 1 and math.prod(input_shape) == features[0]
    return [Flatten()] * image + layers, features


def _read_architecture(path):
    """Layers and input shape, () if it does not say, from a JSON file or a network."""
    if Path(path).suffix in (".npz", ".onnx") or Path(path).is_dir():
        net = load_any(path)
        return list(net.layers), net.input_shape
    try:
        spec = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(spec, list) or not spec:
        raise ValueError(f"{path}: expected a JSON list of layers, got {type(spec).__name__}")
    layers = [from_spec(entry) for entry in spec]
    return layers, (layers[0].in_features,) if isinstance(layers[0], Linear) else ()
