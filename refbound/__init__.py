"""refbound: certified training by linear relaxation, written out in array code.

After Lee, Lee, Park and Lee, "Towards Better Understanding of Training Certifiably Robust Models against
Adversarial Examples", NeurIPS 2021. The symbols, everywhere:

    symbol      meaning                                                         shape inside       in the paper
    x, ε        an input and the radius of its ball; of a box also radii (N, n) (N, n), (N,)       Section 3.1
    z           what an affine layer gives, a ReLU's input; the last, logits f  (N, n), (N, c)     Section 3.1
    y           labels                                                          (N,)               Section 3.1
    C           the margin matrix C(y): rows e_m − e_y                          (S, N, c)          Section 3.1
    s, s̄        margins z_m − z_y, and their upper bounds                       (S, N)             (1)
    l, u        bounds of a ReLU's input                                        (N, n)             Section 3.2
    ā, b̄        slope and intercept of the upper line of a ReLU, the chord      (N, n)             Section 3.2
    a̲           slope of the lower line, through 0 (b̲ = 0)                      (N, n)             Section 3.2
    g, b        the linear bound C f(x) ≤ g·x + b; g is the relaxed gradient    (S, N, n), (S, N)  Definition 1, (2)
    x*          the worst case: where g·x is largest over B; `worst` in code    (S, N, n)          (2)
    a₀, η       the start and the step of the one projected gradient step       (N, n)             (7)
    β           weight of the method against ibp                                                   (3)
    θ           parameters: weights W and biases, `bias` in code                                   Section 3.1

Ours: v, the gradient of the loss in g, at each layer (S, N, n), linear.py; â, b̂, the line that was used, the upper one
where g > 0, else the lower; centre and radius of a box or a ball (N, n); κ, the weight of the clean loss, losses.py;
s_adv, the margins at an attack's point x_adv, and α, λ between them and the bound, objectives.py; ρ, the size of a step
along a gradient, and τ, multiples of it, landscape.py; in regularisers.py, as in its paper, λ is a weight and τ a
tolerance. dX is the gradient of the loss, or of whatever is differentiated, in X.

In shapes: N examples, c classes, S specifications (the c − 1 classes m ≠ y; layer by layer, units), n units of a layer.
Inside, an image's units lie in a row, channels last; the public functions take and give (N, *shape), channels first.
"""

from . import models
from .api import LinearBound, RobustLoss, certified, linear_bound, margin_bounds, preactivation_bounds, robust_loss
from .attack import pgd
from .ball import Ball
from .methods import METHODS
from .network import Network, load, save
from .objectives import OBJECTIVES, objective_loss

__all__ = ["Ball", "LinearBound", "METHODS", "Network", "OBJECTIVES", "RobustLoss", "certified", "linear_bound", "load",
           "margin_bounds", "models", "objective_loss", "pgd", "preactivation_bounds", "robust_loss", "save"]
