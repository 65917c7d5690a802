"""Networks through ONNX and back, and the command: what is read computes what onnx.reference computes."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from graphs import CHAINS, CONSTANTS, f32, write_graph
from networks import ALL, batch, build, draws
from rationals import exact

import refbound as rb
from refbound.layers import Conv2d, Linear, ReLU
from trainers import data, evaluate
from verify import certificate, milp, tightness
from verify.exchange import load_any, main, read_torch, save_any
from verify.formats.load import as_the_run

ROOT = Path(__file__).parents[1]
VNN = ROOT.parent / "shared" / "models" / "mnist-net_256x2.onnx"
DTYPES = [np.float32, np.float64]


def reference(onnx, model, x):
    """What onnx.reference computes on x (N, ...), in parts of the size at which the batch axis is fixed."""
    evaluator = onnx.reference.ReferenceEvaluator(model)
    name = evaluator.input_names[0]
    size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or len(x)
    return np.concatenate([evaluator.run(None, {name: x[i:i + size]})[0] for i in range(0, len(x), size)])


def same_bounds(one, other):
    """Every array alike, and so is a bound, to the last bit."""
    assert one.spec() == other.spec() and one.input_shape == other.input_shape and one.dtype == other.dtype
    assert all(np.array_equal(one.params[name], other.params[name]) for name in one.params)
    ball, y = batch(one)
    np.testing.assert_array_equal(*(rb.margin_bounds(net, ball, y, "crown-ibp") for net in (one, other)))


# ---- ONNX ----

@pytest.mark.parametrize("dtype", DTYPES)
def test_onnx_and_back_gives_the_same_bounds_and_the_reference_runs_it(onnx, tmp_path, dtype):
    for name in ALL:
        net = build(name, dtype=dtype)
        save_any(net, tmp_path / "net.onnx")
        same_bounds(net, load_any(tmp_path / "net.onnx"))
        model = onnx.load(tmp_path / "net.onnx")
        onnx.checker.check_model(model, full_check=True)
        x = batch(net)[0].x
        np.testing.assert_allclose(reference(onnx, model, x), net(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_read_computes_what_the_reference_computes(onnx, tmp_path, name):
    nodes, shape = CHAINS[name]
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    model = write_graph(onnx, tmp_path / "net.onnx", nodes, {k: v for k, v in CONSTANTS.items() if k in used}, shape)
    net = load_any(tmp_path / "net.onnx")
    x = f32(5, *shape[1:])
    here = x.transpose(0, 3, 1, 2) if "last at the input" in name else x.reshape(5, *net.input_shape)
    np.testing.assert_allclose(net(here), reference(onnx, model, x), rtol=1e-4, atol=1e-4)
    single = all((value == value.astype(np.float32)).all() for value in net.params.values())
    assert net.dtype == (np.float32 if single else np.float64) and len(net.input_shape) in (1, 3)


@pytest.mark.parametrize("operator, factor, dtype", [
    ("Mul", f32(1, 4)[0], np.float64), ("Mul", np.float32([0.5]), np.float32),
    ("Div", np.float32([1, 2, -4, 8]), np.float32)])
def test_what_is_folded_is_the_files_function_exactly(onnx, tmp_path, operator, factor, dtype):
    """Rounded to float32, W c was another network, and it was this that was certified."""
    nodes = [("Gemm", ["x", "w", "b"], "h", {}), (operator, ["h", "c"], "a", {}), ("Relu", ["a"], "r", {}),
             ("Gemm", ["r", "v"], "z", {})]
    constants = {name: CONSTANTS[name] for name in ("w", "b", "v")}
    write_graph(onnx, tmp_path / "net.onnx", nodes, constants | {"c": factor}, ("N", 12))
    net = load_any(tmp_path / "net.onnx")
    c = np.broadcast_to(exact(factor if operator == "Mul" else 1 / factor), 4)
    assert net.dtype == dtype and (net.params["2.weight"] == CONSTANTS["v"].T).all()
    assert (exact(net.params["0.weight"]) == exact(CONSTANTS["w"].T) * c[:, None]).all()
    assert (exact(net.params["0.bias"]) == exact(CONSTANTS["b"]) * c).all()


@pytest.mark.parametrize("pads, arithmetic, kernels", [
    ([0, 0, 0, 0], [("Sub", ["x", "mean"], "s", {}), ("Div", ["s", "std"], "d", {})], [(3, 2)]),
    ([1, 0, 1, 0], [("Div", ["x", "std"], "d", {})], [(3, 2)]),
    ([1, 0, 1, 0], [("Sub", ["x", "mean"], "s", {}), ("Div", ["s", "std"], "d", {})], [(1, 1), (3, 2)])])
def test_a_normalisation_goes_into_the_convolution_where_padding_does_not_forbid_it(
        onnx, tmp_path, pads, arithmetic, kernels):
    flat = {"w": f32(4 * (2 + pads[0] + pads[2]) * 2, 3)}
    nodes = [*arithmetic, ("Conv", ["d", "k", "b"], "h", {"pads": pads}), ("Relu", ["h"], "r", {}),
             ("Flatten", ["r"], "f", {}), ("Gemm", ["f", "w"], "z", {})]
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    model = write_graph(onnx, tmp_path / "net.onnx", nodes,
                        {k: v for k, v in {**CONSTANTS, **flat}.items() if k in used}, ("N", 3, 4, 3))
    net = load_any(tmp_path / "net.onnx")
    assert [layer.kernel_size for layer in net.layers if isinstance(layer, Conv2d)] == kernels
    x = f32(5, 3, 4, 3)
    np.testing.assert_allclose(net(x), reference(onnx, model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16"])
def test_half_precision_is_read_as_the_same_numbers_in_float32(onnx, tmp_path, kind):
    """Powers of 2 and 3 / 4, which both hold exactly; as a Constant node and as an initialiser."""
    W = np.float32([[1, -0.5], [0.75, 2**-14]])
    half = onnx.helper.make_tensor("w", getattr(onnx.TensorProto, kind), W.shape, W.ravel().tolist())
    nodes = [onnx.helper.make_node("Constant", [], ["k"], value=half),
             onnx.helper.make_node("MatMul", ["x", "k"], ["h"]), onnx.helper.make_node("MatMul", ["h", "w"], ["z"])]
    infos = [onnx.helper.make_tensor_value_info(name, half.data_type, ["N", 2]) for name in "xz"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "half", infos[:1], infos[1:], [half])),
              tmp_path / "net.onnx")
    net = load_any(tmp_path / "net.onnx")
    assert net.dtype == np.float32 and all((net.params[f"{i}.weight"] == W.T).all() for i in (0, 1))


def test_constant_nodes_are_constants_and_may_be_transposed(onnx, tmp_path):
    value = onnx.numpy_helper.from_array(f32(3, 4))
    model = write_graph(onnx, tmp_path / "net.onnx", [("Constant", [], "k", {"value": value}),
                                                      ("Transpose", ["k"], "t", {}),
                                                      ("MatMul", ["x", "t"], "z", {})], {}, ("N", 4))
    np.testing.assert_allclose(load_any(tmp_path / "net.onnx")(f32(5, 4)), reference(onnx, model, f32(5, 4)), rtol=1e-5)


REFUSED = {
    "Sigmoid": ([("MatMul", ["x", "w"], "h", {}), ("Sigmoid", ["h"], "z", {})],
                "node the Sigmoid z (Sigmoid): expected one of Gemm"),
    "two ways": ([("MatMul", ["x", "w"], "h", {}), ("Relu", ["h"], "r", {}), ("Add", ["h", "r"], "z", {})],
                 "node the Add z (Add): expected the output of the node before, 'r'"),
    "transA": ([("Gemm", ["x", "w"], "z", {"transA": 1})], "node the Gemm z (Gemm): expected transA = 0"),
    "W x": ([("MatMul", ["wt", "x"], "z", {})], "node the MatMul z (MatMul): expected constants only after the data"),
    "ReLU6": ([("MatMul", ["x", "w"], "h", {}), ("Clip", ["h", "zero1", "six1"], "z", {})],
              "node the Clip z (Clip): expected 0 and no max, got 0.0 and 6.0"),
    "Max of more": ([("MatMul", ["x", "w"], "h", {}), ("Max", ["h", "b"], "z", {})],
                    "node the Max z (Max): expected 0, got constants of shape (4,)"),
    "Max that adds an axis": ([("MatMul", ["x", "w"], "h", {}), ("Max", ["h", "cube"], "z", {})],
                              "node the Max z (Max): expected 0, got constants of shape (1, 1, 1)"),
    "the batch squeezed": ([("Unsqueeze", ["x", "first"], "z", {})],
                           "node the Unsqueeze z (Unsqueeze): expected axes of each example, got [0]"),
    "Div after ReLU": ([("MatMul", ["x", "w"], "h", {}), ("Relu", ["h"], "r", {}), ("Div", ["r", "b"], "z", {})],
                               "expected an affine layer after arithmetic"),
    "ReLU of arithmetic": ([("Add", ["x", "std1"], "h", {}), ("Relu", ["h"], "z", {})],
                           "node the Relu z (Relu): expected an affine"),
    "pads": ([("Reshape", ["x", "image"], "i", {}), ("Conv", ["i", "k"], "z", {"pads": [-1, 0, 0, 0]})],
             "node the Conv z (Conv): expected four pads of at least 0, got [-1, 0, 0, 0]"),
    "group": ([("Reshape", ["x", "image"], "i", {}), ("Conv", ["i", "k"], "z", {"group": 3})],
              "node the Conv z (Conv): expected 4 kernels in equal groups, got 3"),
    "reshape": ([("MatMul", ["x", "w"], "h", {}), ("Reshape", ["h", "image"], "z", {})],
                "node the Reshape z (Reshape): expected a shape of the batch and 4 numbers, got [-1, 3, 2, 2]"),
    "shapes": ([("MatMul", ["x", "v"], "z", {})],
               "node the MatMul z (MatMul): linear: expected an input of shape (4,), got (12,)"),
    "missing initialiser": (
        [("Gemm", ["x", "w", "none"], "z", {})],
        "node the Gemm z (Gemm): expected inputs that are initialisers or outputs of nodes before, got 'none'"),
    "Gemm's bias": ([("Gemm", ["x", "w", "v8"], "z", {})],
                    "node the Gemm z (Gemm): expected a bias of 4 numbers, got (8, 3)"),
    "Div by 0": ([("Div", ["x", "zero"], "z", {})], "node the Div z (Div): expected a divisor without zeros"),
    "NaN": ([("MatMul", ["x", "w"], "h", {}), ("Add", ["h", "nan"], "z", {})],
            "node the Add z (Add): expected finite constants"),
    "bias": ([("MatMul", ["x", "w"], "h", {}), ("Add", ["h", "k"], "z", {})],
             "node the Add z (Add): expected constants that broadcast to (4,), got (4, 3, 3, 2)"),
    "a foreign operator": ([("MatMul", ["x", "w"], "h", {}), ("Relu", ["h"], "z", {"domain": "com.example"})],
                           "node the Relu z (Relu): expected an operator of ONNX itself, got one of com.example"),
    "a foreign constant": (
        [("Identity", ["w"], "h", {"domain": "com.example"}), ("MatMul", ["x", "h"], "z", {})],
        "node the Identity h (Identity): expected an operator of ONNX itself, got one of com.example"),
    "an attribute of none": ([("Gemm", ["x", "wt"], "z", {"transC": 1})], "node the Gemm z (Gemm): "),
    "an attribute of another type": ([("Gemm", ["x", "w"], "z", {"transB": 0.5})], "node the Gemm z (Gemm): "),
    "Pad of ones": ([("Reshape", ["x", "image"], "i", {}), ("Pad", ["i", "sides", "one1"], "z", {})],
                    "node the Pad z (Pad): expected a constant of 0"),
    "a shape of a trillion": ([("ConstantOfShape", ["trillion"], "t", {}), ("Add", ["x", "t"], "z", {})],
                              "node the ConstantOfShape t (ConstantOfShape): expected a shape of at most 1000000"),
    "Pad of two million": ([("Reshape", ["x", "image"], "i", {}), ("Pad", ["i", "far"], "p", {}),
                            ("Conv", ["p", "k"], "z", {})],
                           "node the Conv z (Conv): expected at most 1000 rows or columns of padding, got 2000000"),
    "Pad of nothing": ([("Reshape", ["x", "last"], "i", {}), ("Pad", ["i", "no"], "p", {}),
                        ("Transpose", ["p"], "t", {"perm": [0, 3, 1, 2]}), ("Conv", ["t", "k"], "z", {})],
                       "node the Conv z (Conv): expected an image in the order of the layer before it"),
    "Pad by the edge": ([("Reshape", ["x", "image"], "i", {}), ("Pad", ["i", "sides"], "z", {"mode": "edge"})],
                        "node the Pad z (Pad): expected a constant of 0"),
    "Pad of channels": ([("Reshape", ["x", "image"], "i", {}), ("Pad", ["i", "odd"], "z", {})],
                        "node the Pad z (Pad): expected pads of at least 0, of rows and columns, got [0, 1, "),
    "Pad of a vector": ([("Pad", ["x", "own"], "z", {})], "node the Pad z (Pad): expected an image"),
    "ReLU after Pad": ([("Reshape", ["x", "image"], "i", {}), ("Pad", ["i", "sides"], "p", {}),
                        ("Relu", ["p"], "z", {})], "node the Relu z (Relu): expected a convolution after a Pad"),
    "Pad at the end": ([("Reshape", ["x", "image"], "i", {}), ("Conv", ["i", "k1x1"], "h", {}),
                        ("Pad", ["h", "sides"], "z", {})], "expected a convolution after a Pad"),
    "a random constant": ([("RandomNormal", [], "r", {"shape": [4]}), ("Add", ["x", "r"], "z", {})],
                          "node the RandomNormal r (RandomNormal): expected one of Constant, "),
    "all images in one": ([("Reshape", ["x", "one"], "z", {})],
                          "node the Reshape z (Reshape): expected a shape of the batch and 12"),
    "several images in one": ([("Reshape", ["x", "six"], "z", {})],
                              "node the Reshape z (Reshape): expected a shape of the batch and 12"),
    "a zero that is a zero": ([("Reshape", ["x", "flat8"], "z", {"allowzero": 1})], "node the Reshape z (Reshape): "),
    "the batch transposed": ([("Transpose", ["x"], "z", {})],
                             "node the Transpose z (Transpose): expected a perm that starts with 0"),
    "units out of order": ([("Reshape", ["x", "image"], "i", {}), ("Conv", ["i", "k"], "h", {}),
                            ("Transpose", ["h"], "t", {"perm": [0, 3, 2, 1]}), ("Conv", ["t", "k"], "z", {})],
                           "node the Conv h (Conv): conv2d: kernel"),
    "the batch as a number": ([("Shape", ["x"], "s", {}), ("Cast", ["s"], "n", {"to": 1}),
                               ("Gather", ["n", "i0"], "g", {}), ("Add", ["x", "g"], "z", {})],
                              "node the Add z (Add): expected shapes of the data only in a Reshape"),
    "float64 among float32": ([("MatMul", ["x", "wide"], "z", {})],
                              "node the MatMul z (MatMul): expected constants of the type of the input"),
    "a name twice": ([("MatMul", ["x", "w"], "h", {}), ("Relu", ["h"], "x", {})],
                     "node the Relu x (Relu): expected an output of a new name"),
    "batch norm in training": ([("BatchNormalization", ["x", *["f"] * 4], "z", {"training_mode": 1})],
                               "node the BatchNormalization z"),
    "kernel_shape": ([("Reshape", ["x", "image"], "i", {}), ("Conv", ["i", "k"], "z", {"kernel_shape": [1, 1]})],
                     "node the Conv z (Conv): expected kernel_shape (3, 2), as the weights, got [1, 1]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_network_cannot_hold_is_refused_by_node_and_operator(onnx, tmp_path, name):
    nodes, line = REFUSED[name]
    more = {"zero": np.zeros(12, np.float32), "nan": np.full(4, np.nan, np.float32), "six": np.array([-1, 6]),
            "one": np.array([1, -1]), "f": f32(12), "zero1": np.float32(0),
            "cube": np.zeros((1, 1, 1), np.float32), "six1": np.float32(6),
            "first": np.array([0]), "one1": np.float32(1), "last": np.array([-1, 2, 2, 3]), "no": np.zeros(8, np.int64),
            "far": np.array([0, 0, 2 * 10**6, 0, 0, 0, 0, 0]), "trillion": np.array([10**6, 10**6]),
            "odd": np.array([0, 1, 0, 0, 0, 0, 0, 0]),
            "k1x1": f32(2, 3, 1, 1)}
    write_graph(onnx, tmp_path / "net.onnx", nodes, CONSTANTS | more, ("N", 12))
    with pytest.raises(ValueError) as caught:
        load_any(tmp_path / "net.onnx")
    assert str(caught.value).startswith(f"{tmp_path / 'net.onnx'}: {line}") and "\n" not in str(caught.value)


def test_a_graph_of_integers_is_refused(onnx, tmp_path):
    """Its Div would round, and its Sub might wrap around."""
    model = write_graph(onnx, tmp_path / "net.onnx", [("Div", ["x", "two"], "z", {})], {"two": np.int32([2])}, ("N", 3))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="net.onnx: expected an input of floats, got INT32"):
        load_any(tmp_path / "net.onnx")


@pytest.mark.parametrize("opset", [4, 6])
def test_an_opset_whose_operators_mean_something_else_is_refused(onnx, tmp_path, opset):
    """Before opset 7 an Add with axis = 1 aligns its constant with the channels, not with the columns."""
    write_graph(onnx, tmp_path / "net.onnx", [("Gemm", ["x", "w"], "z", {})], CONSTANTS, ("N", 12), opset=opset)
    with pytest.raises(ValueError, match="net.onnx: expected operators of opset 7 or later, got"):
        load_any(tmp_path / "net.onnx")


def test_a_damaged_file_is_one_line(onnx, tmp_path):
    save_any(build("dense"), tmp_path / "net.onnx")
    whole = (tmp_path / "net.onnx").read_bytes()
    for damaged in (whole[:len(whole) // 2], b"", b"not ONNX at all", whole[100:]):
        (tmp_path / "net.onnx").write_bytes(damaged)
        with pytest.raises(ValueError) as caught:
            load_any(tmp_path / "net.onnx")
        assert str(tmp_path / "net.onnx") in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        load_any(tmp_path / "absent.onnx")


@pytest.mark.skipif(not VNN.exists(), reason=f"{VNN.name} is not here")
def test_a_network_of_vnn_comp_converts_and_is_evaluated(onnx, tmp_path):
    def run(*command):
        return subprocess.run([sys.executable, "-m", *command],
                              cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "784 → 256 → relu → 256 → relu → 10" in run("verify.exchange", str(VNN), str(tmp_path / "net.npz"))
    x = draws().random((4, 784), np.float32)
    expected = reference(onnx, onnx.load(VNN), x[:, :, None])
    np.testing.assert_allclose(load_any(tmp_path / "net.npz")(x), expected, rtol=1e-4, atol=1e-4)
    few = ("--n", "32", "--pgd-steps", "0")
    assert "verified error" in run("trainers.evaluate", str(tmp_path / "net.npz"), "--eps", "0.02", *few)


# ---- the command ----

def test_the_command_converts_by_the_endings(onnx, tmp_path, capsys):
    net = build("dense", dtype=np.float32)
    rb.save(net, tmp_path / "a.npz")
    main([str(tmp_path / "a.npz"), str(tmp_path / "b.onnx")])
    main([str(tmp_path / "b.onnx"), str(tmp_path / "c.npz")])
    same_bounds(net, rb.load(tmp_path / "c.npz"))
    assert "6 → 8 → relu → 7 → relu → 4" in capsys.readouterr().out
    for arguments, line in ((("a.npz", "b.txt"), "expected a name that ends in"),
                            (("a.npz", "b.onnx", "--input-shape", "6"), "expected with a"),
                            (("none.npz", "b.onnx"), "none.npz")):
        with pytest.raises((ValueError, OSError), match=line):
            main([str(tmp_path / a) if "." in a else a for a in arguments])


@pytest.mark.parametrize("ending", ["onnx", "pth", "pt"])
def test_commands_of_trainers_name_the_command_that_converts(tmp_path, ending):
    (tmp_path / f"net.{ending}").touch()
    with pytest.raises(ValueError, match=rf"net.{ending}: .* python -m verify.exchange \S*net.{ending} FILE.npz"):
        evaluate.main([str(tmp_path / f"net.{ending}"), "--eps", "0.1"])


def test_a_file_of_another_ending_is_one_line_that_says_which_are_read(tmp_path):
    for name in ("net.onnx.gz", "net.ckpt"):
        (tmp_path / name).write_bytes(b"what it is")
        with pytest.raises(ValueError, match=rf"{name}: expected a name that ends in .npz or .onnx, or a run folder"):
            load_any(tmp_path / name)
    save_any(build("dense"), tmp_path / "net.onnx")
    (tmp_path / "net.onnx").rename(tmp_path / "NET.ONNX")
    assert load_any(tmp_path / "NET.ONNX").spec() == build("dense").spec()


def test_safetensors_are_converted_by_a_line_that_is_said(tmp_path):
    with pytest.raises(ValueError,
                       match=r"torch.save\(safetensors.torch.load_file\('.*net.safetensors'\), 'net.pth'\)"):
        load_any(tmp_path / "net.safetensors")


COMMANDS = {"trainers.evaluate": (evaluate.main, ("--pgd-steps", "0", "--threads", "1")),
            "verify.milp": (milp.main, ("--n", "40")),
            "verify.certificate": (certificate.main, ("--n", "20", "--method", "crown-ibp")),
            "verify.tightness": (tightness.main, ("--n", "8", "--pgd-steps", "1"))}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_network_of_other_images_is_suspected_aloud(tmp_path, monkeypatch, capsys, command):
    """Classes by the nearest mean: scores W x + b > 0; of inverted pixels, W (1 − x) + b, half or more are wrong."""
    main, options = COMMANDS[command]
    images, y = (a[:100] for a in data.load("mnist", "test"))
    monkeypatch.setattr(data, "load", lambda *_: data.Dataset(images, y))
    x = data.to_float(images, np.float32).reshape(100, -1)
    means = np.stack([x[y == c].mean(0) for c in range(10)])
    W, b = 2 * means, 500 - (means ** 2).sum(1)
    for name, weight, bias in (("right", W, b), ("inverted", -W, b + W.sum(1))):
        params = {"0.weight": weight, "0.bias": bias, "2.weight": np.eye(10), "2.bias": np.zeros(10)}
        layers = [Linear(784, 10), ReLU(), Linear(10, 10)]
        rb.save(rb.Network(layers, {k: v.astype(np.float32) for k, v in params.items()}, (784,)),
                tmp_path / f"{name}.npz")
        out = ("--out", str(tmp_path / f"{name}.jsonl")) if command == "verify.milp" else ()
        main([str(tmp_path / f"{name}.npz"), "--eps", "0.001", *options, *out])
        assert ("transposed images, inverted pixels (1 − x)" in capsys.readouterr().err) == (name == "inverted")


@pytest.mark.parametrize("package, extra, ending", [("onnx", "onnx", ".onnx"), ("torch", "peers", ".pth")])
def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch, tmp_path, package, extra, ending):
    monkeypatch.setitem(sys.modules, package, None)
    for use in (lambda: save_any(build("dense"), tmp_path / f"net{ending}"),
                lambda: (load_any if package == "onnx" else read_torch)(tmp_path / f"net{ending}")):
        with pytest.raises(ValueError, match=rf"package {package}, .* \(pip install 'refbound\[{extra}\]'\)"):
            use()


RUN = {"method": "ibp", "eps": 0.3, "no_clip": True, "norm": "inf", "data": "mnist", "data_dir": "fashion"}


def test_a_run_is_verified_as_it_was_trained_unless_asked_otherwise(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"arguments": RUN}))
    for given, wanted in (((None, None, None), (0.3, True, "fashion")), ((0.1, None, None), (0.1, True, "fashion")),
                          ((None, False, "digits"), (0.3, False, "digits"))):
        args = SimpleNamespace(model=str(tmp_path), eps=given[0], no_clip=given[1], data_dir=given[2])
        as_the_run(args)
        assert (args.eps, args.no_clip, args.data_dir) == wanted
    nothing = {"eps": None, "no_clip": None, "data_dir": None}
    with pytest.raises(ValueError, match="--eps: a network file does not say its ε"):
        as_the_run(SimpleNamespace(model="net.onnx", **nothing))
    for other, line in (({"norm": "2"}, "--norm inf, got one of 2"),
                        ({"data": "svhn"}, "--data mnist, got one of svhn")):
        (tmp_path / "config.json").write_text(json.dumps({"arguments": RUN | other}))
        with pytest.raises(ValueError, match=line):
            as_the_run(SimpleNamespace(model=str(tmp_path), **nothing))
