"""Files mutated at random: what verify.formats reads computes as onnx's reference or torch does; all else is one line.

    python -m pytest -m slow tests/test_fuzz.py      10,000 files
"""

import contextlib
import io

import numpy as np
import pytest
from graphs import CHAINS, CONSTANTS, f32, write_graph

from refbound import Network
from verify.exchange import load_any, read_torch

BASES = [name for name in CHAINS if name != "auto_pad VALID"]
FEW, MANY = 500, 5000
SIZES = [pytest.param(FEW), pytest.param(MANY, marks=pytest.mark.slow)]
NAMES = ("x", "h", "w", "z", "", "new", "value", "0", "é\n")
NUMBERS = (-2, -1, 0, 1, 2, 3, 7, 2**31 - 1, 2**40)
ATTRIBUTES = {"transA": 1, "transB": 1, "alpha": 0.5, "beta": -2.0, "axis": 0, "pads": [0, 1, 0, 1],
              "auto_pad": "SAME_UPPER", "strides": [2, 1], "group": 2, "dilations": [2, 2], "perm": [0, 3, 1, 2],
              "to": 11, "training_mode": 1, "epsilon": 0.5, "value": 0.0, "allowzero": 1, "broadcast": 1, "start": 1,
              "kernel_shape": [1, 1], "axes": [0], "value_ints": [3]}
OPERATORS = ("Gemm", "MatMul", "Conv", "Relu", "Flatten", "Reshape", "Transpose", "Add", "Sub", "Mul", "Div",
             "BatchNormalization", "Shape", "Identity", "Dropout", "Cast", "Sigmoid", "Pad", "Squeeze", "Unsqueeze",
             "Constant", "Slice", "Concat", "Gather", "new")
VALUES = (np.nan, np.inf, 0.0, -1.0, 1e30)


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


# ---- ONNX ----

def rename(onnx, rng, model):
    owner = pick(rng, [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output])
    name = pick(rng, [*NAMES, *(node.output[0] for node in model.graph.node if node.output)])
    if isinstance(owner, onnx.NodeProto):
        names = pick(rng, [owner.input, owner.output])
        if names:
            names[int(rng.integers(len(names)))] = name
    else:
        owner.name = name


def operator(onnx, rng, model):
    node = pick(rng, model.graph.node)
    node.op_type = pick(rng, OPERATORS)


def domain(onnx, rng, model):
    pick(rng, model.graph.node).domain = pick(rng, ("com.example", "ai.onnx.ml", "ai.onnx"))


def attribute(onnx, rng, model):
    node = pick(rng, model.graph.node)
    if not node.attribute or rng.random() < 0.4:
        name = pick(rng, list(ATTRIBUTES))
        node.attribute.append(onnx.helper.make_attribute(name, ATTRIBUTES[name]))
        return
    chosen = pick(rng, node.attribute)
    kind = rng.integers(5)
    if kind == 0:
        chosen.name = pick(rng, list(ATTRIBUTES))
    elif kind == 1:
        node.attribute.remove(chosen)
    elif kind == 2:
        chosen.type = int(rng.integers(12))
    elif kind == 3 and chosen.ints:
        chosen.ints[int(rng.integers(len(chosen.ints)))] = pick(rng, NUMBERS)
    else:
        chosen.i, chosen.f = pick(rng, NUMBERS), float(pick(rng, NUMBERS))


def tensor(onnx, rng, model):
    """An initialiser of another dtype, rank, shape or value; or one that is damaged."""
    if not model.graph.initializer:
        return
    chosen = pick(rng, model.graph.initializer)
    array, kind = onnx.numpy_helper.to_array(chosen), rng.integers(7)
    if kind == 0:
        array = array.astype(pick(rng, (np.float16, np.float64, np.int32, np.int64, np.bool_, np.complex64)))
    elif kind == 1:
        array = pick(rng, (array[None], array.reshape(-1), array.T, array.reshape(-1)[:1], array.reshape(-1)[:0],
                           array[..., None]))
    elif kind == 2 and array.size:
        array = array.copy()
        array.reshape(-1)[int(rng.integers(array.size))] = pick(rng, VALUES if array.dtype.kind == "f" else NUMBERS[:7])
    elif kind == 3:
        chosen.data_type = int(rng.integers(24))
    elif kind == 4:
        chosen.raw_data = chosen.raw_data[:-1]
    elif kind == 5 and chosen.dims:
        chosen.dims[int(rng.integers(len(chosen.dims)))] = pick(rng, NUMBERS)
    else:
        array = np.concatenate([array, array]) if array.ndim else array
    if kind in (0, 1, 2, 6):
        chosen.CopyFrom(onnx.numpy_helper.from_array(array, chosen.name))


def nodes(onnx, rng, model):
    """One node less, more, elsewhere, or with other inputs and outputs."""
    nodes = model.graph.node
    i, kind = int(rng.integers(len(nodes))), rng.integers(6)
    if kind == 0 and len(nodes) > 1:
        del nodes[i]
    elif kind == 1:
        nodes.append(nodes[i])
    elif kind == 2:
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        rng.shuffle(kept)
        del nodes[:]
        nodes.extend(kept)
    elif kind == 3 and nodes[i].input:
        del nodes[i].input[-1]
    elif kind == 4:
        nodes[i].input.append(pick(rng, [*NAMES, *(t.name for t in model.graph.initializer)]))
    else:
        nodes[i].output.append("more")


def between(onnx, rng, model):
    """A node more, of the output of another: any; or one that may stand there, of a constant that may fit."""
    i = int(rng.integers(len(model.graph.node)))
    before, graph = model.graph.node[i], model.graph
    name = before.output[0]
    before.output[0] = f"between {len(graph.node)}"
    op, more = pick(rng, OPERATORS), [t.name for t in graph.initializer]
    more = [pick(rng, more) for _ in range(int(rng.integers(3)))] if more else []
    if rng.random() < 0.9:
        op, values = pick(rng, (
            ("Reshape", pick(rng, ([0, -1], [-1, 4], [0, 4, -1], [0, 2, -1, 2], [0, 0, 4], [1, -1], [-1, 3, 2, 2]))),
            ("Transpose", []), *((op, f32(*size)) for op in ("Add", "Sub", "Mul", "Div") for size in (
                (1,), (4,), (3,), (4, 1, 1), (3, 1, 1), (1, 3, 2, 2), (2, 2), (12,), (16,), (1, 8)))))
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), f"constant {len(graph.node)}"))
        more = [] if op == "Transpose" else [graph.initializer[-1].name]
    node = onnx.helper.make_node(op, [before.output[0], *more], [name])
    if op == "Transpose":
        node.attribute.append(onnx.helper.make_attribute(
            "perm", pick(rng, ([0, 2, 1], [0, 1], [0, 2, 3, 1], [0, 3, 2, 1], [0, 1, 3, 2]))))
    graph.node.insert(i + 1, node)


def shape(onnx, rng, model):
    kind = model.graph.input[0].type.tensor_type
    if rng.random() < 0.2:
        kind.elem_type = int(rng.integers(24))
    elif rng.random() < 0.2:
        kind.shape.dim.add().dim_value = pick(rng, NUMBERS[:7])
    elif kind.shape.dim:
        pick(rng, kind.shape.dim).dim_value = pick(rng, NUMBERS[:7])


def version(onnx, rng, model):
    if rng.random() < 0.3 or not model.opset_import:
        model.opset_import.add().domain = pick(rng, ("", "ai.onnx", "com.example"))
    pick(rng, model.opset_import).version = int(pick(rng, (*range(1, 27), 99)))


MUTATIONS = (rename, operator, domain, attribute, attribute, tensor, tensor, nodes, *[between] * 12, shape, version)


def expected(onnx, model):
    """(x, what the reference computes on it), or None where it computes nothing."""
    value = [v for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}][0]
    batch, *dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    for n in ([batch] if batch else [2, 1]):
        x = f32(n, *dims).astype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        try:
            with np.errstate(all="ignore"):
                return x, onnx.reference.ReferenceEvaluator(model).run(None, {value.name: x})[0]
        except Exception:  # a graph for one image at a time, of an input that does not say so
            continue
    return None


def old_batch_norm(model):
    """The reference mixes the statistics of the batch into a BatchNormalization of opset < 14, against the standard."""
    return any(node.op_type == "BatchNormalization" for node in model.graph.node) and \
        [o.version for o in model.opset_import if not o.domain][-1] < 14


@pytest.mark.parametrize("files", SIZES)
def test_a_mutated_graph_is_read_as_what_it_computes_or_refused_in_one_line(onnx, tmp_path, files):  # noqa: F811
    rng, path, read = np.random.default_rng(files), tmp_path / "net.onnx", 0
    models = []
    for name in BASES:
        nodes, dims = CHAINS[name]
        used = {given for _, inputs, _, _ in nodes for given in inputs}
        models.append(write_graph(onnx, path, nodes, {k: v for k, v in CONSTANTS.items() if k in used}, dims))
    for _ in range(files):
        model = onnx.ModelProto()
        model.CopyFrom(pick(rng, models))
        for _ in range(int(rng.geometric(0.6))):
            with contextlib.suppress(Exception):  # of what is damaged already
                pick(rng, MUTATIONS)(onnx, rng, model)
        path.write_bytes(model.SerializeToString())
        try:
            net = load_any(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error), error
            continue
        assert isinstance(net, Network)
        if old_batch_norm(model):
            continue
        given = expected(onnx, model)
        assert given, f"read, and refused by the reference: {model}"
        x, z = given
        if not np.isfinite(z).all():  # a float32 overflows where the float64 that constants are folded in does not
            continue
        read += 1
        last = x.ndim == 4 and x.shape[1:] != net.input_shape == (x.shape[3], *x.shape[1:3])
        found = net(x.transpose(0, 3, 1, 2) if last else x.reshape(len(x), *net.input_shape))  # channels last, or not
        assert found.shape == z.shape, f"{found.shape} {z.shape} {model}"
        np.testing.assert_allclose(found, z, rtol=1e-3, atol=1e-3 * max(1, np.abs(z).max()), err_msg=str(model))
    print(f"{files} files: {read} read")
    assert read > files / 20


@pytest.mark.parametrize("files", [FEW])
def test_a_graph_of_damaged_bytes_is_one_line(onnx, tmp_path, files):  # noqa: F811
    rng, path = np.random.default_rng(files), tmp_path / "net.onnx"
    nodes, dims = CHAINS["view(size(0), -1)"]
    whole = write_graph(onnx, path, nodes, CONSTANTS, dims).SerializeToString()
    for _ in range(files):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        path.write_bytes(content[:int(rng.integers(len(content)))] if rng.random() < 0.2 else content)
        try:
            load_any(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error), error


# ---- PyTorch ----

def changed(torch, rng, state):  # noqa: F811
    """A state_dict with one thing changed."""
    items, i = list(state.items()), int(rng.integers(len(state)))
    key, value = items[i]
    kind = rng.integers(9)
    dtypes = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64, torch.float8_e5m2)
    if kind == 0:
        items[i] = (pick(rng, ("1.weight", "3.weight", "2.bias", "weight", "a.0.weight", "x.2.weight", "0", "", 3,
                               "²weight", "é\n.bias")), value)
    elif kind == 1 and isinstance(value, torch.Tensor):
        items[i] = (key, value.to(pick(rng, dtypes)))
    elif kind == 2 and isinstance(value, torch.Tensor):
        items[i] = (key, pick(rng, (value[None], value.reshape(-1), value.reshape(-1)[:0], value.sum(),
                                    value.mT if value.ndim > 1 else value,
                                    value.repeat(2, *[1] * (value.ndim - 1)) if value.ndim else value)))
    elif kind == 3 and isinstance(value, torch.Tensor):
        items[i] = (key, pick(rng, (value.to_sparse(), value.to("meta"), value.expand(2, *value.shape),
                                    torch.nn.Parameter(value.float()))))
    elif kind == 4:
        items[i] = (key, pick(rng, (None, 1.5, [value], {"weight": value}, "text")))
    elif kind == 5:
        del items[i]
    elif kind == 6:
        rng.shuffle(items)
    elif kind == 7 and isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
        items[i] = (key, torch.full_like(value.float(), pick(rng, VALUES)))
    else:
        items.append((f"{int(rng.integers(8))}.{pick(rng, ('weight', 'bias', 'running_mean', 'weight_g'))}", value))
    return dict(items)


def sequential(torch, state):  # noqa: F811
    """The nn.Sequential of these names: a ReLU wherever a number is left out; strict, so all its tensors are taken."""
    numbers = {int(key.split(".")[-2]) for key in state}
    prefix = next(iter(state)).rpartition(".")[0].rpartition(".")[0]
    modules = []
    for i in range(max(numbers) + 1):
        weight = state.get(f"{prefix}.{i}.weight".lstrip("."))
        linear = None if weight is None else torch.nn.Linear(
            *weight.shape[::-1], bias=f"{prefix}.{i}.bias".lstrip(".") in state)
        modules.append(linear or (torch.nn.ReLU() if i > min(numbers) else torch.nn.Identity()))
    module = torch.nn.Sequential(*modules)
    module.load_state_dict({key.removeprefix(f"{prefix}."): value.float() for key, value in state.items()})
    return module


@pytest.mark.parametrize("files", SIZES)
def test_a_mutated_state_dict_is_read_as_the_sequential_of_its_names_or_refused_in_one_line(
        torch, tmp_path, files):  # noqa: F811
    rng, path, read = np.random.default_rng(files), tmp_path / "net.pth", 0
    for _ in range(files):
        names = pick(rng, ((0, 2, 4), (1, 3, 4), (0, 3, 6)))
        state = {f"{i}.{kind}": torch.from_numpy(f32(*((4, 4) if kind == "weight" else (4,)), seed=i))
                 for i in names for kind in ("weight", "bias")}
        for _ in range(int(rng.geometric(0.6))):
            with contextlib.suppress(Exception):
                state = changed(torch, rng, state)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = bytearray(buffer.getvalue())
        if rng.random() < 0.1:
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        path.write_bytes(content)
        try:
            net = read_torch(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error), error
            continue
        state = torch.load(path, weights_only=True)
        read += 1
        x = f32(3, *net.input_shape)
        with torch.no_grad():
            z = sequential(torch, state)(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(net(x), z, rtol=1e-2, atol=1e-2 * max(1, np.abs(z).max()), err_msg=str(state))
    print(f"{files} files: {read} read")
    assert read > files / 20
