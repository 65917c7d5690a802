"""Adam (Kingma and Ba 2015) and SGD with momentum: (params, grads, state, rate) -> (params, state).

Parameters, gradients and the state's moments are dicts of arrays with the same names; nothing is changed in place.
"""

from refbound.arrays.ops import namespace


def adam(params, grads, state, rate, beta1=0.9, beta2=0.999, eps=1e-8):
    """m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  w ← w − rate m̂ / (√v̂ + eps), m̂ and v̂ without their bias.

    v is a mean over some 1 / (1 − β₂) steps.
    """
    t = state.get("t", 0) + 1
    new, step = {"t": t}, {}
    for name, g in grads.items():
        m = beta1 * state.get(f"m/{name}", 0 * g) + (1 - beta1) * g
        v = beta2 * state.get(f"v/{name}", 0 * g) + (1 - beta2) * g * g
        new[f"m/{name}"], new[f"v/{name}"] = m, v
        step[name] = rate / (1 - beta1**t) * m / ((v / (1 - beta2**t)) ** 0.5 + eps)
    return {name: w - step[name] for name, w in params.items()}, new


def sgd(params, grads, state, rate, momentum=0.9):
    """m ← momentum m + g,  w ← w − rate m."""
    m = {name: momentum * state.get(f"m/{name}", 0 * g) + g for name, g in grads.items()}
    return {name: w - rate * m[name] for name, w in params.items()}, {f"m/{name}": value for name, value in m.items()}


def add_l1(grads, params, weight):
    """The gradients, with that of weight Σ |W| over the weights of all layers; those of the biases as they are."""
    if not weight:
        return grads
    return {name: g + weight * namespace(g).sign(params[name]) if name.endswith("weight") else g
            for name, g in grads.items()}


def clip_norm(grads, limit):
    """The gradients scaled down to a joint l2 norm of at most `limit`; as they are for limit 0."""
    if not limit:
        return grads
    norm = sum(float((g.astype("float64") ** 2).sum()) for g in grads.values()) ** 0.5
    return {name: g * min(1.0, limit / norm) for name, g in grads.items()} if norm > limit else grads


OPTIMIZERS = {"adam": adam, "sgd": sgd}
