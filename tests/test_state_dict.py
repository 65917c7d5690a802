"""PyTorch's state dicts in and out: the same bounds; what they do not say is asked for, and never guessed."""

import json

import numpy as np
import pytest
from networks import ALL, batch, build
from test_exchange import DTYPES, same_bounds

import refbound as rb
from refbound.layers import Conv2d, Flatten, Linear, ReLU
from verify.exchange import main, read_torch, save_any


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_dict_and_back_gives_the_same_bounds(torch, tmp_path, dtype):
    for name, (_, shape) in ALL.items():
        net = build(name, dtype=dtype)
        save_any(net, tmp_path / "net.pth")
        rb.save(net, tmp_path / "net.npz")
        (tmp_path / "net.json").write_text(json.dumps(net.spec()))
        same_bounds(net, read_torch(tmp_path / "net.pth", tmp_path / "net.npz"))
        same_bounds(net, read_torch(tmp_path / "net.pth", tmp_path / "net.json", shape))


def test_an_architecture_is_that_of_any_network(onnx, torch, tmp_path):
    net = build("stride 1, 2, padding 1")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"arguments": {"method": "ibp"}}')
    for name in ("net.pth", "net.npz", "net.onnx", "run/best.npz"):
        save_any(net, tmp_path / name)
    for name in ("net.npz", "net.onnx", "run"):
        same_bounds(net, read_torch(tmp_path / "net.pth", tmp_path / name))
    for name in ("none.npz", "none.onnx", "net.pth"):
        with pytest.raises((ValueError, OSError), match=name):
            read_torch(tmp_path / "net.pth", tmp_path / name)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_state_dict_in_half_precision_is_read_as_the_same_numbers_in_float32(torch, tmp_path, kind):
    state = torch.nn.Linear(6, 5, dtype=getattr(torch, kind)).state_dict(prefix="0.")
    torch.save(state, tmp_path / "net.pth")
    net = read_torch(tmp_path / "net.pth")
    assert net.dtype == np.float32
    assert all((torch.from_numpy(net.params[name]) == value).all() for name, value in state.items())


def test_linear_layers_need_no_architecture(torch, tmp_path):
    for modules in ([0, 2, 4], [0, 3]):
        Linear, ReLU = torch.nn.Linear, torch.nn.ReLU
        net = torch.nn.Sequential(*[Linear(6, 6) if i in modules else ReLU() for i in range(modules[-1] + 1)])
        torch.save(net.state_dict(), tmp_path / "net.pt")
        x = torch.rand(5, 6)
        np.testing.assert_allclose(read_torch(tmp_path / "net.pt")(x.numpy()), net(x).detach().numpy(),
                                   rtol=1e-5, atol=1e-6)
    image = read_torch(tmp_path / "net.pt", input_shape=(1, 2, 3))
    assert image.input_shape == (1, 2, 3) and isinstance(image.layers[0], Flatten)


@pytest.mark.parametrize("names", [("layers.0", "layers.1"), ("0", "1", "2"), ("0", "1", "3"), ("fc1", "fc2"),
                                   ("a.0", "b.2"), ("f.0", "f.2", "g.4"), ("net.0", "head")])
def test_what_stands_between_layers_is_not_guessed_from_names_that_do_not_say_it(torch, tmp_path, names):
    """A ModuleList's forward may do anything between: read as layer after layer, it was another function."""
    state = {f"{name}.{kind}": torch.eye(2) if kind == "weight" else torch.zeros(2)
             for name in names for kind in ("weight", "bias")}
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="do not say what stands between the layers; expected --architecture"):
        read_torch(tmp_path / "net.pth")
    spec = [{"type": "linear", "in_features": 2, "out_features": 2}, {"type": "relu"}] * len(names)
    (tmp_path / "net.json").write_text(json.dumps(spec[:-1]))
    x = np.array([[-1.0, 2.0]], np.float32)
    assert read_torch(tmp_path / "net.pth", tmp_path / "net.json")(x).tolist() == [[0, 2]]


@pytest.mark.parametrize("names", [("2", "0"), ("net.0", "net.10", "net.2", "out"), ("fc1", "fc10", "fc2"),
                                   ("blocks.0.fc", "blocks.10.fc", "blocks.2.fc"), ("fc2", "fc1")])
def test_layers_that_a_file_has_in_another_order_are_refused(torch, tmp_path, names):
    """As one that is sorted by name: it would be another network, whatever the architecture."""
    torch.save({f"{name}.weight": torch.eye(2) for name in names}, tmp_path / "net.pth")
    (tmp_path / "net.json").write_text(
        json.dumps([{"type": "linear", "in_features": 2, "out_features": 2}] * len(names)))
    with pytest.raises(ValueError, match="expected layers in the order of the network"):
        read_torch(tmp_path / "net.pth", tmp_path / "net.json")


def test_names_that_are_sorted_and_have_no_numbers_are_refused_and_with_numbers_read(torch, tmp_path):
    """As safetensors gives them: the bias of a module before its weight."""
    spec = [{"type": "linear", "in_features": 2, "out_features": 2}] * 2
    (tmp_path / "net.json").write_text(json.dumps(spec))
    for names in (("deep", "out"), ("0", "1"), ("fc1", "fc2")):
        torch.save({f"{name}.{kind}": torch.eye(2)[:1 + (kind == "weight")].squeeze() + int(name == names[0])
                    for name in names for kind in ("bias", "weight")}, tmp_path / "net.pth")
        if names[0] != "deep":
            assert (read_torch(tmp_path / "net.pth", tmp_path / "net.json").params["0.weight"] == np.eye(2) + 1).all()
            continue
        with pytest.raises(ValueError, match="sorted by name, which does not say the order of deep, out"):
            read_torch(tmp_path / "net.pth", tmp_path / "net.json")


def test_a_checkpoint_is_read_by_its_one_state_dict(torch, tmp_path):
    state = {"0.weight": torch.eye(2)}
    for whole in ({"state_dict": state, "epoch": 3}, {"state_dict": [state], "err": [1]}, {"model_state_dict": state}):
        torch.save(whole, tmp_path / "net.pth")
        assert (read_torch(tmp_path / "net.pth").params["0.weight"] == np.eye(2)).all()


FOREIGN = {  # what is no weight of a dense or convolutional layer, by the words that name it
    "sparse": (lambda t, W: W.to_sparse(), "torch.sparse_coo"), "complex": (lambda t, W: W.cfloat(), "torch.complex64"),
    "integers": (lambda t, W: W.int(), "torch.int32"), "truth values": (lambda t, W: W > 0, "torch.bool"),
    "another dtype": (lambda t, W: W.double(), "float64"),
    "eight bits": (lambda t, W: W.to(t.float8_e4m3fn), "torch.float8_e4m3fn"),
    "no data": (lambda t, W: W.to("meta"), "meta"), "a number": (lambda t, W: W[0, 0], r"shape \(\)"),
    "three axes": (lambda t, W: W[None], r"shape \(1, 5, 4\)"), "NaN": (lambda t, W: W * np.nan, "finite"),
    "a layer of another size": (lambda t, W: W[:, :3], r"shape \(3,\), got \(4,\)"),
    "a bias of another size": (lambda t, W: W[:3], r"shape \(3,\), got float32 \(5,\)"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_tensor_that_is_no_weight_is_one_line_that_names_its_key(torch, tmp_path, kind):
    change, words = FOREIGN[kind]
    W = change(torch, torch.ones(5, 4))
    torch.save({"0.weight": torch.ones(4, 4), "2.weight": W, "2.bias": torch.ones(5)}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=rf"net.pth: 2(.weight|.bias)?: .*{words}") as caught:
        read_torch(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)


def test_the_state_dict_loads_into_the_sequential_of_its_names(torch, tmp_path):
    net = build("stride 1, 2, padding 1", dtype=np.float32)
    save_any(net, tmp_path / "net.pth")
    modules = {Linear: lambda layer: torch.nn.Linear(layer.in_features, layer.out_features),
               Conv2d: lambda layer: torch.nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size,
                                                     layer.stride, layer.padding),
               Flatten: lambda _: torch.nn.Flatten(), ReLU: lambda _: torch.nn.ReLU()}
    sequential = torch.nn.Sequential(*[modules[type(layer)](layer) for layer in net.layers])
    sequential.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    x = batch(net)[0].x
    np.testing.assert_allclose(sequential(torch.from_numpy(x)).detach().numpy(), net(x), rtol=1e-5, atol=1e-6)


def test_what_a_state_dict_does_not_say_is_asked_for(torch, tmp_path):
    save_any(build("stride 1, 2, padding 1"), tmp_path / "net.pth")
    (tmp_path / "net.json").write_text(json.dumps(build("stride 1, 2, padding 1").spec()))
    (tmp_path / "damaged.pth").write_bytes((tmp_path / "net.pth").read_bytes()[:300])
    whole = bytearray((tmp_path / "net.pth").read_bytes())
    whole[whole.find(build("stride 1, 2, padding 1").params["0.weight"].tobytes())] ^= 1
    (tmp_path / "one bit.pth").write_bytes(whole)
    torch.save({"0.weight": torch.ones(2, 2), **torch.nn.BatchNorm1d(2).state_dict(prefix="1.")}, tmp_path / "norm.pth")
    torch.save({"0.weight": torch.ones(2, 2), "1.weight": torch.ones(2)}, tmp_path / "layer norm.pth")
    torch.save({"weights": {"0.weight": torch.ones(2, 2)}, "epoch": 3}, tmp_path / "checkpoint.pth")
    for arguments, line in ((("net.pth",), "expected --architecture"),
                            (("net.pth", tmp_path / "net.json"), "expected --input-shape"),
                            (("damaged.pth",), "damaged.pth: expected a state_dict, .* cannot be read as one"),
                            (("one bit.pth", tmp_path / "net.json", (2, 5, 4)), "cannot be read as one .BadZipFile"),
                            (("layer norm.pth",),
                             r"1.weight: expected that of a Linear or Conv2d layer, got shape \(2,\)"),
                            (("checkpoint.pth",), "names of tensors alone, got 'weights', 'epoch'"),
                            (("norm.pth",), "1.running_mean: expected weights .* read from its ONNX file")):
        with pytest.raises(ValueError, match=line) as caught:
            read_torch(tmp_path / arguments[0], *arguments[1:])
        assert "\n" not in str(caught.value)


def test_what_is_put_in_by_a_guess_is_listed(torch, tmp_path, capsys):
    for modules, line in (((0, 2), "6 → 6 → relu → 6, 84 parameters, float32 (relu assumed:"),
                          ((1,), "6 → 6, 42 parameters, float32 (nothing assumed:")):
        state = {f"{i}.{kind}": torch.ones(6, 6) if kind == "weight" else torch.ones(6)
                 for i in modules for kind in ("weight", "bias")}
        torch.save(state, tmp_path / "net.pth")
        main([str(tmp_path / "net.pth"), str(tmp_path / "net.npz")])
        assert line in capsys.readouterr().out
