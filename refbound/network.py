"""Network: a feed-forward ReLU classifier f, its gradient, its prefixes h^[k] and the margin matrix C(y).

    z = f(x),    s_m(x) = z_m − z_y = (C(y) z)_m  for every class m ≠ y

h^[k] is the part of f before its k-th ReLU: `net.layers[:net.relus[k]]`. A network holds layers (geometry) and
parameters (arrays named as in a PyTorch state_dict of the same Sequential); neither changes in a computation.
"""

import io
import json
import math
import os
from numbers import Integral

import numpy as np

from .backend import is_array, namespace, positive, to_host
from .layers import LAYERS, Affine, Flatten, ReLU, from_spec
from .layout import rows


class Network:
    """A classifier: layers, params {"0.weight": ..., "0.bias": ...}, input_shape (without the batch axis).

    Derived: classes, relus (the indices of the ReLU layers), shapes and units (their number) at the input of
    each layer, the last at the output.

    Raises ValueError where layers do not fit together or a parameter's shape, dtype or value cannot be.
    """

    def __init__(self, layers, params, input_shape):
        if np.ndim(input_shape) != 1 or not all(isinstance(n, Integral) and n > 0 for n in input_shape):
            raise ValueError(f"input_shape: expected positive whole numbers, as (1, 28, 28), got {input_shape!r}")
        self._place(layers, tuple(int(n) for n in input_shape))
        if len(self.shapes[-1]) != 1 or self.shapes[-1][0] < 2:
            raise ValueError(f"network: expected an output of shape (c,) with at least 2 classes, got {self.shapes[-1]}")
        self.classes, self.params = self.shapes[-1][0], dict(params)
        self._check_params()

    def _place(self, layers, input_shape):
        shape, placed, shapes = input_shape, [], [input_shape]
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

    def _check_params(self):
        shapes = {}
        for i, layer in self.affine():
            shapes[f"{i}.weight"], shapes[f"{i}.bias"] = layer.weight_shape, layer.weight_shape[:1]
        if not shapes:
            raise ValueError("params: expected at least one linear or conv2d layer, got none")
        if set(shapes) != set(self.params):
            raise ValueError(f"params: expected {sorted(shapes)}, got {sorted(self.params)}")
        for name, value in self.params.items():
            if not is_array(value) or value.shape != shapes[name] or value.dtype.kind != "f":
                raise ValueError(f"{name}: expected a float array of shape {shapes[name]}, "
                                 f"got {getattr(value, 'dtype', type(value).__name__)} {getattr(value, 'shape', '')}")
            if not bool(namespace(value).isfinite(value).all()):
                raise ValueError(f"{name}: expected finite numbers, got a NaN or an infinity")
        if len({p.dtype for p in self.params.values()}) > 1:
            raise ValueError(f"params: expected one dtype, got {sorted({str(p.dtype) for p in self.params.values()})}")

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

    def affine(self):
        """(index, layer) of each affine layer."""
        return [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, Affine)]

    @property
    def tail(self):
        """Where the layers after the last ReLU begin; 0 if there is none."""
        return self.relus[-1] + 1 if self.relus else 0

    def weight(self, i):
        return self.params[f"{i}.weight"]

    def bias(self, i):
        return self.params[f"{i}.bias"]

    def with_params(self, params):
        """The same architecture with other parameters."""
        return Network(self.layers, params, self.input_shape)

    def part(self, layers, input_shape):
        """These layers, which stand for as many first ones of the network, with its parameters and another input shape."""
        part = object.__new__(Network)
        part.params = self.params
        part._place(layers, input_shape)
        return part

    def spec(self):
        """The architecture as a list of dicts, the JSON of the file format."""
        return [layer.spec() for layer in self.layers]

    def __call__(self, x):
        """Logits (N, c) of x (N, *input_shape), in the network's dtype. ValueError for another shape."""
        if not is_array(x) or tuple(x.shape[1:]) != self.input_shape or len(x) == 0:
            raise ValueError(f"x: expected shape (N, {', '.join(map(str, self.input_shape))}), "
                             f"got {getattr(x, 'shape', type(x).__name__)}")
        return forward(self, as_rows(x, self.dtype))[0]


def as_rows(x, dtype):
    """(N, *shape) -> (N, n), channels last, in a dtype."""
    return rows(x, x.shape[1:]).astype(dtype)


def forward(net, z):
    """Logits (N, c) of the rows z (N, n), and the input of every layer."""
    inputs = []
    for i, layer in enumerate(net.layers):
        inputs.append(z)
        if isinstance(layer, Affine):
            z = layer.apply(net.weight(i), layer.patches(z)) + layer.spread(net.bias(i))
        elif isinstance(layer, ReLU):
            z = positive(z)
        elif isinstance(layer, Flatten):
            z = layer.reorder(z)
    return z, inputs


def forward_vjp(dz, net, inputs):
    """Gradients of <dz, f(x)> in every parameter, from the layer inputs that `forward` gave.

    Through z = W x + bias: dW = dW(dz, x), dbias = dz, dx = Aᵀ(W, dz); through z = max(x, 0): dx = [x > 0] dz.
    """
    grads = {}
    for i in reversed(range(len(net.layers))):
        layer, x = net.layers[i], inputs[i]
        if isinstance(layer, Affine):
            grads[f"{i}.weight"] = layer.outer(dz, layer.patches(x))
            grads[f"{i}.bias"] = layer.bias_sum(dz)
            if i > 0:
                dz = layer.adjoint(net.weight(i), dz)
        elif isinstance(layer, ReLU):
            dz = (x > 0) * dz
        elif isinstance(layer, Flatten):
            dz = layer.restore(dz)
    return grads


def input_gradient(net, inputs, dz):
    """The gradient of <dz, f(x)> in the input, (N, n)."""
    for i in reversed(range(len(net.layers))):
        layer = net.layers[i]
        if isinstance(layer, Affine):
            dz = layer.adjoint(net.weight(i), dz)
        elif isinstance(layer, ReLU):
            dz = (inputs[i] > 0) * dz
        elif isinstance(layer, Flatten):
            dz = layer.restore(dz)
    return dz


def margin_matrix(y, classes, dtype):
    """C(y) as (S, N, c), S = c − 1: row m of example n is e_m − e_y, for the classes m ≠ y in order."""
    xp = namespace(y)
    s, k = xp.arange(classes - 1)[:, None], xp.arange(classes)
    m = s + (s >= y)  # (S, N), the s-th class that is not y
    return (m[:, :, None] == k).astype(dtype) - (y[:, None] == k).astype(dtype)


def with_true_class(s, y):
    """Margins (S, N, ...) of the classes m ≠ y as (N, c, ...), with 0 at y."""
    xp = namespace(s)
    k = xp.arange(len(s) + 1)[:, None]
    row = xp.minimum(k - (k > y), len(s) - 1).reshape(-1, len(y), *(1,) * (s.ndim - 2))  # (c, N, ...)
    full = xp.take_along_axis(s, xp.broadcast_to(row, (len(s) + 1, *s.shape[1:])), 0)
    return xp.where((k == y).reshape(row.shape), xp.zeros((), s.dtype), full).swapaxes(0, 1)


def save(net, path):
    """Writes a network to an .npz file, whole or not at all."""
    arrays = {name: to_host(value) for name, value in net.params.items()}
    buffer = io.BytesIO()
    np.savez(buffer, architecture=json.dumps(net.spec()), input_shape=np.array(net.input_shape), **arrays)
    write_whole(path, buffer.getvalue())


def write_whole(path, content):
    """Bytes to a file, under a name of this process's own that is then renamed: a reader finds all of them or none."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {path}") from None
    finally:
        if os.path.exists(part):
            os.remove(part)


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
            arrays = {name: file[name] for name in file.files}
        for name in ("architecture", "input_shape"):
            if name not in arrays:
                raise ValueError(f"it has no array {name!r}")
        layers = [from_spec(spec) for spec in json.loads(str(arrays.pop("architecture")))]
        net = Network(layers, {k: v for k, v in arrays.items() if k != "input_shape"}, arrays["input_shape"].tolist())
        return net
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and header parsers each raise their own classes on foreign bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a network file: {reason}") from None
