"""The multiply-adds that one training step needs, counted from the shapes.

Let m_k be the multiply-adds of affine layer k for one vector: its weights times the positions at which they apply.
Per example:

    clean logits        m_k in every layer
    interval bounds     2 m_k in every layer before the last ReLU (centre and radius); their gradient as much again for
                        the weights, and again for the adjoint of every layer but the first
    linear bound        S m_k back through every layer but the last, S = c − 1; its gradient S m_k forward (the worst
                        input pushed through the lines) and S m_k for the weights
    one-step            a second linear bound: S m_k back, and S m_k forward for the gradient of its slopes
    cap                 for the first ReLU the interval bound; for every other a linear bound as above, of S = n_k
                        functions for its n_k inputs, through the layers before the one that feeds it (whose rows are
                        its weights), a convolution's on its receptive field. crown has two of them, one for each side
    cap, p projections  forwards: 1 + p vectors for each term of the sum, the input and every earlier ReLU; as much
                        again for the weights, and for the adjoint of every layer but the first
    an objective        in each step of its attack m_k forward and m_k back in every layer. With α, at its last point,
                        m_k forward and m_k for the weights, and again for the adjoint of every layer but the first

Not counted, being lower by the width of a layer: what is elementwise, biases, the last layer's rows e_m − e_y
(differences of rows), and the final products with the input. Padding counts as if it were there.
"""

import refbound as rb
from refbound.arrays.field import field
from refbound.objectives import STEPS


def layer_costs(net):
    """{i: m_i} of the affine layers."""
    return {i: net.params[f"{i}.weight"].size * layer.positions for i, layer in net.affine}


def multiply_adds(net, method, projections=None, objective="robust"):
    """Of one training step for one example: logits, bound, loss and gradients."""
    options = rb.OBJECTIVES[objective].options
    if options:
        once, (first, *_) = sum(layer_costs(net).values()), layer_costs(net).values()
        return (multiply_adds(net, method, projections) + 2 * STEPS * once
                + (3 * once - first if "alpha" in options else 0))
    cost, S = layer_costs(net), net.classes - 1
    first, last = min(cost), max(cost)
    inner = {i: m for i, m in cost.items() if net.relus and i < net.relus[-1]}
    linear = 3 * S * sum(m for i, m in cost.items() if i != last)
    total = sum(cost.values())
    if method in ("cap", "crown"):
        vectors = {i: 1 + (projections or 0) * (1 + sum(j < i for j in net.relus)) for i in inner}
        if projections:
            return total + linear + sum((2 + (i > first)) * vectors[i] * m for i, m in inner.items())
        return total + linear + sum(_layerwise(net, stop, 2 if method == "crown" else 1) for stop in net.relus)
    total += sum((4 + 2 * (i > first)) * m for i, m in inner.items())
    if method == "ibp":
        return total
    return total + linear + (2 * S * sum(inner.values()) if method == "one-step" else 0)


def _layerwise(net, stop, sides):
    """The bounds of the inputs of the ReLU at `stop`, with their gradient."""
    whole = [m for i, m in layer_costs(net).items() if i < stop]
    if len(whole) < 2:
        return 4 * sum(whole)  # intervals
    *before, _ = [m for i, m in layer_costs(field(net, stop, 1).net).items() if i < stop]  # at one position
    return 3 * sides * net.units[stop] * sum(before)
