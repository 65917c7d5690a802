"""Other implementations of the same bounds: they agree with refbound, and are timed as the benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from networks import ALL, BALLS, batch, build

import refbound as rb
from trainers.files.words import markdown
from verify import peers
from verify.pytorch import agreement
from verify.pytorch.published import HELD, MERGED, PEERS, Region
from verify.speed import benchmark, cost, floors, report
from verify.speed import cases as timed

TORCH = "torch is not installed (pip install 'refbound[peers]')"


@pytest.fixture
def torch():
    """PyTorch on one thread, which small networks are fastest with."""
    torch = pytest.importorskip("torch", reason=TORCH)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def problem(name, ball_name="inf"):
    """A network and ball of networks.py as peers compares them."""
    import torch

    from verify.pytorch.rendering import sequential
    net = build(name)
    ball, y = batch(net, ball_name)
    x, eps = (torch.from_numpy(np.array(a)) for a in (ball.x, ball.eps))
    return agreement.Problem(net, sequential(net), ball, y, Region(x, eps, ball.norm, ball.domain))


def largest(p, variant, beta=0.7, kappa=0.3):
    """The worst difference between refbound and the rendering, over all quantities."""
    found = agreement.by_rendering(p, variant, 3, beta, kappa)
    trained = {"loss", "gradient"} if rb.METHODS[agreement.VARIANTS[variant][0]].trains else set()
    assert set(found) == set(agreement.QUANTITIES) - {"loss", "gradient"} | trained
    return max(found.values())


# ---- the rendering ----

@pytest.mark.parametrize("ball_name", BALLS)
@pytest.mark.parametrize("name", ALL)
def test_rendering_equals_refbound(torch, name, ball_name):
    p = problem(name, ball_name)
    np.testing.assert_allclose(p.model(p.region.x).detach().numpy(), p.net(p.ball.x), atol=1e-12)
    for variant, (_, options) in agreement.VARIANTS.items():
        if p.region.norm == np.inf or "projections" not in options:
            assert largest(p, variant) <= 1e-9, variant


@pytest.mark.parametrize("method, projections", [*((method, None) for method in rb.METHODS), ("cap", 5)])
def test_rendering_makes_every_tensor_where_the_model_is(torch, method, projections):
    """On the device "meta", which has shapes and no numbers, and refuses a tensor of the CPU as a GPU does."""
    from verify.pytorch.rendering import cross_entropy, sequential
    model, x = (sequential(build("stride 1, 2, padding 1")).to("meta"),
                torch.zeros(2, 1, 5, 5, dtype=float, device="meta"))
    y = torch.zeros(2, dtype=int, device="meta")
    s = PEERS["rendering"].prepare(model, x, method, projections)(Region(x, 0.1, domain=(0.0, 1.0)), y).s
    cross_entropy(s).mean().backward()
    assert s.device.type == "meta" and all(p.grad.device.type == "meta"
                                           for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("beta, kappa", [(1, 0), (0, 0), (0.5, 1)])
@pytest.mark.parametrize("variant", [v for v in agreement.VARIANTS if not v.startswith("alpha")])
def test_rendering_equals_refbound_for_any_mixture(torch, variant, beta, kappa):
    assert largest(problem("dense"), variant, beta, kappa) <= 1e-9


@pytest.mark.parametrize("variant", ["cap", "crown"])
def test_rendering_in_blocks_is_the_rendering(torch, variant, monkeypatch):
    from verify.pytorch import layers
    monkeypatch.setattr(layers, "BLOCK", 100)
    monkeypatch.setattr(layers, "KEPT", 0)
    assert largest(problem("stride 1, 2, padding 1"), variant) <= 1e-9


def test_agreement_says_that_the_rendering_agrees(torch, capsys):
    assert peers.main(["agreement", "--models", "dense", "conv"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n| {variant} " in text for variant in agreement.VARIANTS) and all(name in text for name in PEERS)


def test_agreement_notices_a_difference_of_one_in_a_million(torch, monkeypatch, capsys):
    from verify.pytorch import rendering
    right = rendering.cross_entropy
    monkeypatch.setattr(rendering, "cross_entropy", lambda s: right(s) + 1e-6)  # of the share 1 − κ
    assert peers.main(["agreement", "--models", "dense"]) == 1
    assert "differs by 7.0e-07" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in PEERS if name != "rendering"])
def test_published_implementation_agrees_where_no_difference_is_known(torch, name):
    peer = PEERS[name]
    pytest.importorskip(peer.package, exc_type=ImportError, reason=f"{name} is not installed, or not beside this torch")
    for (method, _), found in agreement.of_published(peer, peers.Agreement(models=("dense",))).items():
        apart, known = {name for name, value in found.items() if value > 1e-9}, {*peer.differs[method].quantities}
        assert apart <= known and bool(apart) == bool(known), (method, found)


@pytest.mark.parametrize("method, apart, why", [
    ("crown-ibp", {"gradient": 1e-2, "margins": 1e-16}, HELD.text),
    ("crown-ibp", {"gradient": 1e-2, "margins": 1e-3}, "UNEXPLAINED"),
    ("ibp", {"margins": 1e-2, "above": 1e-2, "below": -1e-3}, MERGED.text),
    ("ibp", {"margins": 1e-2, "above": 1e-3, "below": 1e-2}, "UNEXPLAINED"),
    ("ibp", {"margins": np.inf, "above": np.inf, "below": np.inf}, "UNEXPLAINED")])
def test_a_known_cause_explains_the_quantities_that_it_touches_alone(method, apart, why, monkeypatch, capsys):
    monkeypatch.setattr(peers, "of_rendering", lambda args: {"ibp": {"margins": 0.0}})
    monkeypatch.setattr(peers, "of_published", lambda peer, args: {(method, np.inf): apart})
    monkeypatch.setattr(peers, "version", lambda package: "1.0")
    monkeypatch.setattr(peers, "PEERS", {name: peer._replace(package="numpy") for name, peer in PEERS.items()
                                         if name in ("rendering", "bound_propagation")})  # one that is installed
    assert peers.main(["agreement"]) == (why == "UNEXPLAINED")
    printed = capsys.readouterr()
    assert printed.out.split("|")[-2].strip() == why
    line = f"bound_propagation differs in {method}, l∞ by more than 1e-09, for no known reason\n"
    assert printed.err == line * (why == "UNEXPLAINED")


# ---- the count ----

def test_multiply_adds_counted_by_hand():
    net = build("dense")  # 6-8-7-4: m = 48, 56, 28; S = 3
    linear = 3 * 3 * (48 + 56)
    boxes = 4 * 48 + 6 * 56
    assert cost.layer_costs(net) == {0: 48, 2: 56, 4: 28}
    assert cost.multiply_adds(net, "ibp") == 132 + boxes
    assert cost.multiply_adds(net, "crown-ibp") == cost.multiply_adds(net, "cap-ibp") == 132 + boxes + linear
    assert cost.multiply_adds(net, "one-step") == 132 + boxes + linear + 2 * 3 * (48 + 56)
    assert cost.multiply_adds(net, "cap") == 132 + linear + 4 * 48 + 3 * 7 * 48  # 7 units seen through the first layer
    assert cost.multiply_adds(net, "crown") == 132 + linear + 4 * 48 + 2 * 3 * 7 * 48
    assert cost.multiply_adds(net, "ibp", objective="sabr") == 132 + boxes + 8 * 2 * 132  # 8 steps, there and back
    assert cost.multiply_adds(net, "ibp", objective="mtl-ibp") == 132 + boxes + 8 * 2 * 132 + 3 * 132 - 48
    assert cost.multiply_adds(net, "cap", 5) == 132 + linear + 2 * (1 + 5) * 48 + 3 * (1 + 10) * 56
    case = timed.case_of(benchmark.Args(batch=10), "mlp", {"widths": (6, 8, 7, 4), "input_shape": (6,)}, "ibp")
    assert case.gflop() == pytest.approx(2e-9 * 10 * (132 + boxes))


def test_multiply_adds_of_convolutions():
    net = rb.models.small(np.random.default_rng(0))  # 16 maps of 14², 32 maps of 7², kernels 4 × 4
    assert cost.layer_costs(net) == {0: 16 * 14**2 * 16, 2: 32 * 7**2 * 16 * 16, 5: 1568 * 100, 7: 1000}
    assert cost._layerwise(net, 1, 1) == 4 * 16 * 14**2 * 16  # intervals, at every position
    assert cost._layerwise(net, 3, 1) == 3 * 1568 * 16 * 4**2 * 16  # of the first layer, a unit sees 4 by 4 positions
    assert 2e-9 * 128 * cost.multiply_adds(net, "crown-ibp") == pytest.approx(5.27, abs=0.01)


def test_passes_counted_by_hand():
    """(multiply-adds, numbers): a product has its input and output, a ReLU its units twice, all times the vectors."""
    net = build("dense")  # 6-8-7-4: m = 48, 56, 28; S = 3
    whole = {"logits": (132, 14 + 15 + 11 + 2 * 15), "intervals": (2 * 104, 2 * (14 + 15 + 2 * 8)),
             "margins": (3 * 104, 3 * (14 + 15 + 2 * 15)),
             "margins, gradient": (3 * 208, 3 * (2 * 14 + 2 * 15 + 2 * 15)),
             "intervals, gradient": (2 * (104 + 56), 2 * (14 + 15 + 15 + 2 * 8))}
    assert floors.counted(net, "crown-ibp") == {**whole, "whole": (1596, 721)}
    assert floors.counted(net, "one-step")["slopes"] == (3 * 208, 3 * (2 * 14 + 2 * 15 + 4 * 15))
    assert floors.counted(net, "ibp")["margins"] == floors.counted(net, "ibp")["margins, gradient"] == (0, 2 * 2 * 7)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "cap-ibp", "one-step"])
def test_the_passes_are_a_step(method):
    for name in ("dense", "stride 1, 2, padding 1"):
        net = build(name)
        ball, y = batch(net, "inf")
        a0 = [0.5 + np.zeros((len(y), net.units[i])) for i in net.relus]
        *passes, whole = floors.counted(net, method).items()
        assert list(floors.passes_of(net, method, ball.region(net.dtype), y, a0)) == [of for of, _ in passes]
        assert whole == ("whole", (cost.multiply_adds(net, method), sum(numbers for _, (_, numbers) in passes)))


def test_floors_are_work_by_rate(capsys):
    assert peers.main(["floors", "--models", "mlp", "--methods", "ibp", "--batch", "100", "--repeats", "1",
                       "--threads", "1"]) == 0
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    (count, moved, sgemm, copy, ms), = [map(float, cells) for name, *cells in lines
                                        if name.startswith("mlp, ibp: whole")]
    assert count == pytest.approx(1e-4 * (89400 + 4 * 78400 + 6 * 10000), rel=0.01) and ms > sgemm > 0 and ms > copy > 0
    assert moved == pytest.approx(4e-4 * ((1194 + 400) + 2 * (1084 + 200) + 2 * 400 + 2 * (1084 + 200 + 200)), rel=0.01)


# ---- the benchmark ----

def run_speed(tmp_path, *more):
    out = tmp_path / "speed.json"
    assert peers.main(["speed", "--models", "mlp", "--methods", "ibp", "--repeats", "1", "--batch", "8",
                       "--threads", "1", "--out", str(out), *more]) == 0
    return json.loads(out.read_text())


def test_speed_times_refbound_alone(tmp_path, capsys):
    result = run_speed(tmp_path, "--against")
    (row,) = result["rows"]
    assert set(row["ms"]) == {"refbound"} and row["ratio"] is None and row["failed"] == {}
    assert row["ms"]["refbound"] == np.median(row["times"]["refbound"]) > 0
    net = rb.models.mlp(np.random.default_rng(0), input_shape=(1, 28, 28))
    assert row["gflop"] == 2e-9 * 8 * cost.multiply_adds(net, "ibp")
    assert row["share"] == pytest.approx(row["gflop"] / row["ms"]["refbound"] * 1e3 / row["sgemm"])
    assert row["mb"]["refbound"] > 0
    assert "\n| mlp   | ibp    |     8 | " in capsys.readouterr().out


def test_speed_times_the_rendering_in_turn(torch, tmp_path):
    (row,) = run_speed(tmp_path, "--against", "rendering")["rows"]
    assert row["ratio"] == row["ms"]["rendering"] / row["ms"]["refbound"] and row["fastest"] == "rendering"
    assert set(row["times"]) == {"refbound", "rendering", "sgemm"}


def test_speed_times_an_objective_with_its_attack(tmp_path, capsys):
    ibp, mtl = run_speed(tmp_path, "--against", "rendering", "--methods", "ibp", "mtl-ibp")["rows"]
    assert set(mtl["ms"]) == {"refbound"} and mtl["ms"]["refbound"] > ibp["ms"]["refbound"]
    net = rb.models.mlp(np.random.default_rng(0), input_shape=(1, 28, 28))
    assert mtl["gflop"] == 2e-9 * 8 * cost.multiply_adds(net, "ibp", objective="mtl-ibp") > 3 * ibp["gflop"]
    assert "\n| mlp   | mtl-ibp |     8 | " in capsys.readouterr().out


def test_the_bounds_own_loss_is_no_method():
    with pytest.raises(ValueError, match="--methods: expected a method that trains, .*, got 'robust'"):
        timed.case_of(benchmark.Args(), "mlp", {}, "robust")


def test_worker_waits_for_its_turn_and_says_why_it_ends():
    case = timed.case_of(benchmark.Args(batch=4, threads=1), "mlp", {}, "crown-ibp")
    with benchmark.Worker(case) as one:
        assert one.hear()["ready"] > 0
        assert all(ms > 0 for ms in one.ask("run")["ms"]) and one.ask("memory")["mb"] > 0
    for given, words in (({"model": "none"}, "refbound: KeyError: 'none'"),
                         ({"model": "small", "batch": 64, "memory": 0.001}, "refbound: .*[Mm]emory")):
        with benchmark.Worker(case._replace(**given)) as one, pytest.raises(ValueError, match=words):
            one.hear()


def test_exact_cap_takes_as_many_examples_as_the_limit_allows():
    args = benchmark.Args(threads=2)
    for text, batch_size in (("ibp", 128), ("cap-50", 128), ("cap", 32)):
        assert timed.within(20, timed.case_of(args, "small", {}, text)).batch == batch_size
    assert timed.within(20, timed.case_of(args, "wide", {}, "cap")).batch == 2


@pytest.mark.skipif(sys.platform != "linux", reason="a peak is forgotten on Linux only")
def test_peak_memory_is_that_of_an_allocation():
    """In a process of its own: what another test has freed could be used again."""
    code = ("import numpy as np; from verify.speed import worker; before = worker.reset_peak(); "
            "np.ones(2**23); print(worker.peak() - before)")  # 64 MB, freed at once
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent)
    assert 60 < float(done.stdout) < 200


def test_figure_of_a_sweep(tmp_path, monkeypatch):
    def saved(self, path, **more):
        colours.append([line.get_color() for line in self.axes[0].lines if line.get_linestyle() == "-"])
        save(self, path, **more)

    save, colours = Figure.savefig, []
    monkeypatch.setattr(Figure, "savefig", saved)
    rows = [{"method": method, "projections": None, "objective": objective, "of": (of, n), "gflop": n,
             "ms": {"refbound": n, "rendering": 2 * n}}
            for method, objective in (("ibp", "robust"), ("cap", "robust"), ("ibp", "sabr"))
            for of, (values, _) in timed.SWEEPS.items() for n in values]
    report.draw(rows, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 10_000 and len(set(colours[0])) == len(colours[0]) == 3


def test_table_is_markdown():
    assert markdown(("method", "ms"), [("ibp", 12), ("crown-ibp", 3)], right=["ms"]) == (
        "| method    |  ms |\n| --------- | --: |\n| ibp       |  12 |\n| crown-ibp |   3 |")


@pytest.mark.parametrize("argv, words", [
    ([], "expected one of agreement, speed, floors, got nothing"),
    (["race"], "expected one of agreement, speed, floors, got race"),
    (["speed", "--figure", "x.png"], "expected --sweep"),
    (["speed", "--methods", "alpha"], "expected a method that trains"),
    (["speed", "--methods", "cap-0"], "cap-K"), (["speed", "--repeats", "0"], "expected at least 1, got 0")])
def test_refusals_are_one_clear_line(argv, words):
    with pytest.raises(ValueError, match=words):
        peers.main(argv)


def test_a_nan_is_infinitely_far_from_anything():
    ours = {"margins": [np.zeros(3)], "b": [np.ones(2)]}
    theirs = {"margins": [np.array([0, np.nan, 0])], "b": [np.ones(2)]}
    found = {}
    for _ in range(2):
        agreement.merge(found, agreement.worst(ours, theirs))
        agreement.merge(found, {"margins": 1e-15})
    assert found == {"margins": np.inf, "b": 0.0}
