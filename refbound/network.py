"""Network: a feed-forward ReLU classifier z = f(x), and its file.

`net.layers[:net.relus[k]]` are the layers before ReLU k, k from 0. A network holds layers (geometry) and
parameters (arrays named as in a PyTorch state_dict of the same Sequential); neither changes in a computation. What is
computed with it is in layers.py.
"""

import dataclasses
import io
import json
import math
import os
from numbers import Integral

import numpy as np

from .arrays.ops import as_rows, described, is_array, is_float, namespace, to_host
from .layers import Affine, Conv2d, Flatten, Linear, ReLU, forward

LAYERS = {layer.kind: layer for layer in (Linear, Conv2d, ReLU, Flatten)}


class Network:
    """A classifier: layers, params {"0.weight": ..., "0.bias": ...} in float32 or float64, input_shape of one example.

    Derived: classes; affine, the (index, layer) of each affine layer; relus, the indices of the ReLUs; head, where the
    layers after the last ReLU begin; shapes and units (their number) at the input of each layer, and at the output.

    Raises ValueError where layers do not fit together or a parameter's shape, dtype or value cannot be.
    """

    def __init__(self, layers, params, input_shape):
        if np.ndim(input_shape) != 1 or not all(isinstance(n, Integral) and n > 0 for n in input_shape):
            raise ValueError(f"input_shape: expected positive whole numbers, as (1, 28, 28), got {input_shape!r}")
        self._place(layers, tuple(int(n) for n in input_shape))
        if len(self.shapes[-1]) != 1 or self.shapes[-1][0] < 2:
            raise ValueError("network: expected an output of shape (c,) with at least 2 classes, "
                             f"got {self.shapes[-1]}")
        try:
            params = dict(params)
        except (TypeError, ValueError):
            raise ValueError(f"params: expected a dict of arrays, got {type(params).__name__}") from None
        self._check(params)
        self.classes, self.params = self.shapes[-1][0], {name: in_order(value) for name, value in params.items()}

    def _place(self, layers, input_shape):
        shape, placed, shapes = input_shape, [], [input_shape]
        if not hasattr(layers, "__iter__"):
            raise ValueError(f"layers: expected a list of layers, got {layers!r:.60}")
        for i, layer in enumerate(layers):
            try:
                if not isinstance(layer, tuple(LAYERS.values())):
                    raise ValueError(f"expected one of {', '.join(LAYERS)}, got {layer!r}")
                layer, shape = layer.at(shape)
            except ValueError as error:
                raise ValueError(f"layer {i}: {error}") from None
            placed.append(layer)
            shapes.append(shape)
        self.input_shape, self.layers, self.shapes = input_shape, tuple(placed), tuple(shapes)
        self.units = tuple(math.prod(shape) for shape in shapes)
        self.relus = tuple(i for i, layer in enumerate(self.layers) if isinstance(layer, ReLU))
        self.affine = [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, Affine)]
        self.head = self.relus[-1] + 1 if self.relus else 0

    def _check(self, params):
        shapes = {}
        for i, layer in self.affine:
            shapes[f"{i}.weight"], shapes[f"{i}.bias"] = layer.weight_shape, layer.weight_shape[:1]
        if not shapes:
            raise ValueError("params: expected at least one linear or conv2d layer, got none")
        if set(shapes) != set(params):
            raise ValueError(f"params: expected {sorted(shapes)}, got {sorted(params, key=str)}")
        for name, value in params.items():
            if not is_float(value) or value.shape != shapes[name]:
                raise ValueError(f"{name}: expected a float32 or float64 array of shape {shapes[name]}, "
                                 f"got {described(value)}")
            if not bool(namespace(value).isfinite(value).all()):
                raise ValueError(f"{name}: expected finite numbers, got a NaN or an infinity")
        if len({p.dtype for p in params.values()}) > 1:
            raise ValueError(f"params: expected one dtype, got {sorted({str(p.dtype) for p in params.values()})}")

    def __repr__(self):
        kinds = " ".join(type(layer).__name__ for layer in self.layers)
        return f"<Network of inputs {self.input_shape}, {self.classes} classes, {self.dtype}: {kinds}>"

    @property
    def dtype(self):
        return next(iter(self.params.values())).dtype

    @property
    def xp(self):
        """The array module of the parameters."""
        return namespace(*self.params.values())

    def with_params(self, params):
        """The same architecture with other parameters."""
        return Network(self.layers, params, self.input_shape)

    def part(self, layers, input_shape):
        """A network of `layers` in place of as many first ones of this, with its parameters and another input shape."""
        part = object.__new__(Network)
        part._place(layers, input_shape)
        part.params = self.params
        return part

    def spec(self):
        """The architecture as a list of dicts, the JSON of the file format."""
        return [spec(layer) for layer in self.layers]

    def __call__(self, x):
        """Logits (N, c) of x (N, *input_shape), in the network's dtype. ValueError unless they fit and are finite."""
        if not is_array(x) or tuple(x.shape[1:]) != self.input_shape or len(x) == 0:
            raise ValueError(f"x: expected shape (N, {', '.join(map(str, self.input_shape))}), got {described(x)}")
        if x.dtype.kind not in "fiub" or not bool(namespace(x).isfinite(x).all()):
            raise ValueError(f"x: expected finite numbers, got {described(x)}")
        return forward(self, as_rows(x, self.dtype))[0]


def in_order(value):
    """An array whose bytes are in the machine's order: another is another dtype, for which draws would be others."""
    return value if value.dtype.isnative else value.astype(value.dtype.type)


def spec(layer):
    """A layer as an entry of `architecture`: {"type": ..., and its arguments}, a pair of equal numbers as one."""
    pairs = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer) if f.compare}
    return {"type": layer.kind,
            **{name: value if isinstance(value, int) else value[0] if value[0] == value[1] else list(value)
               for name, value in pairs.items()}}


def from_spec(entry):
    """The layer that an entry of `architecture` describes; ValueError if it describes none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str) or entry["type"] not in LAYERS:
        raise ValueError(f"architecture: expected a layer of type {', '.join(LAYERS)}, got {entry!r}")
    arguments = {k: v for k, v in entry.items() if k != "type"}
    if unknown := {"image", "window"} & set(arguments):  # fields of a layer at its place
        raise ValueError(f"architecture: {entry!r}: unexpected {', '.join(sorted(unknown))}")
    try:
        return LAYERS[entry["type"]](**arguments)
    except TypeError as error:
        raise ValueError(f"architecture: {entry!r}: {error}") from None


def save(net, path):
    """Writes a network to an .npz file, whole or not at all."""
    arrays = {name: to_host(value) for name, value in net.params.items()}
    buffer = io.BytesIO()
    np.savez(buffer, architecture=json.dumps(net.spec()), input_shape=np.array(net.input_shape), **arrays)
    write_whole(path, buffer.getvalue())


def write_whole(path, content):
    """Bytes or text to a file, under a name of this process's own that is then renamed: a reader finds all or none."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if os.path.exists(part):
            os.remove(part)


def whole_arrays(file):
    """{name: array} of an open .npz file; ValueError if one is damaged: NumPy reads an array without its checksum."""
    if damaged := file.zip.testzip():
        raise ValueError(f"{damaged} is not what was written")
    return {name: file[name] for name in file.files}


def load(path):
    """Reads a network from an .npz file; a ValueError names the file and what is wrong with it.

    No pickle is ever opened. A missing file raises FileNotFoundError.
    """
    try:
        with open(path, "rb") as file:
            if file.read(2) not in (b"PK", b"\x93N"):  # np.load would take it for a pickle, and advise to open that
                raise ValueError("expected an .npz archive")
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise ValueError("a single array, not an .npz archive")
        with arrays as file:
            arrays = whole_arrays(file)
        for name in ("architecture", "input_shape"):
            if name not in arrays:
                raise ValueError(f"it has no array {name!r}")
        text = arrays.pop("architecture")
        if text.ndim or text.dtype.kind != "U" or not isinstance(entries := json.loads(str(text)), list):
            raise ValueError(f"architecture: expected the text of a JSON list of layers, got {described(text)}")
        layers = [from_spec(entry) for entry in entries]
        return Network(layers, {k: v for k, v in arrays.items() if k != "input_shape"}, arrays["input_shape"].tolist())
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and header parsers each raise their own classes on foreign bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a network file: {reason}") from None
