"""The PyTorch rendering as an implementation held against the reference outputs: it agrees, for every method."""

import numpy as np
import pytest

from verify import golden
from verify.reference import cases as golden_cases

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from verify.pytorch import rendering  # noqa: E402 (it needs PyTorch)


def rendered(name):
    """The arrays of a case as the rendering makes them, by the names of the reference."""
    arrays = golden.read(golden.SHIPPED / f"{name}.npz")
    net, ball, y, _ = golden_cases.problem(arrays)
    model = rendering.sequential(net)
    tensors = {key: torch.from_numpy(np.array(a)) for key, a in arrays.items() if a.dtype.kind in "fi"}
    region = rendering.ball_around(tensors["x"], tensors["eps"], float(arrays["norm"]), ball.domain)
    given = {"a0": [tensors[f"a0/{k}"] for k in range(len(net.relus))], "steps": int(arrays["steps"]),
             **{key: float(arrays[key]) for key in ("eta", "p", "q")}}
    found = {}
    for variant, (method, changes) in golden_cases.VARIANTS.items():
        if f"{variant}/margins" not in arrays:
            continue
        options = {**given, **changes}
        if options.pop("projections", None):
            options["cauchy"] = [tensors[key].flatten(1) for key in sorted(arrays) if key.startswith("cauchy/")]
        found |= {f"{variant}/{key}": a for key, a in one(model, region, tensors, method, options, arrays).items()}
    if "x_adv" in arrays:
        box = rendering.small_box(region, tensors["x"], tensors["x_adv"], tensors["eps"], float(arrays["lam"]))
        for variant, (objective, method) in golden_cases.TRAINED.items():
            options = {name: given[name] for name in ("a0", "eta")} if method == "one-step" else {}
            loss, s = rendering.objective_loss(
                model, region, tensors["x"], tensors["y"], objective, method, tensors["x_adv"], box,
                **{name: float(arrays[name]) for name in ("alpha", "beta", "kappa")}, **options)
            found |= {f"{variant}/{key}": a
                      for key, a in with_gradient(model, loss, {"margins": full(s, arrays)}).items()}
    return found


def full(a, arrays):
    """(N, S, ...) as (N, c, ...), with 0 in column y."""
    others = np.arange(len(arrays["logits"][0])) != arrays["y"][:, None]
    result = np.zeros((*others.shape, *a.shape[2:]))
    result[others] = a.detach().numpy().reshape(-1, *a.shape[2:])
    return result


def with_gradient(model, loss, result):
    """The result, the loss and its gradient in every parameter."""
    names, params = zip(*model.named_parameters())
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    grads = {f"grad/{n}": (g if g is not None else torch.zeros_like(w)).numpy()
             for n, w, g in zip(names, params, grads)}
    return {**result, "loss": loss.item(), **grads}


def one(model, region, tensors, method, options, arrays):
    """Every quantity of one method."""
    labels, weights = tensors["y"], (float(arrays["beta"]), float(arrays["kappa"]))
    bound = rendering.bound(model, region, labels, method, **options)
    loss = rendering.robust_loss(model, region, tensors["x"], labels, method, *weights, **options)
    result = {"loss": loss.item(),
              **{key: full(a, arrays) for key, a in (("margins", bound.s), ("g", bound.g), ("b", bound.b))}}
    for k, pair in enumerate(bound.pre):
        result |= {f"preactivation/{k}/{end}": z.detach().numpy() for end, z in zip("lu", pair)}
    return with_gradient(model, loss, result) if method != "alpha" else result


@pytest.mark.parametrize("name", golden_cases.CASES)
def test_the_rendering_agrees_with_the_reference_outputs(name, tmp_path, capsys):
    arrays = rendered(name)
    assert {key.split("/")[0] for key in arrays} >= {"ibp", "crown-ibp", "cap-ibp", "one-step", "alpha", "cap", "crown"}
    assert (golden_cases.TRAINED.keys() <= {key.split("/")[0] for key in arrays}) == name.startswith("objectives")
    np.savez(tmp_path / f"{name}.npz", **arrays)
    status = golden.main(["check", str(tmp_path / f"{name}.npz"), "--quiet"])
    assert not status, capsys.readouterr().out
