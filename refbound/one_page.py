"""The paper on one page: every bound of certified training by linear relaxation, and every gradient, in plain NumPy.

S. Lee, W. Lee, J. Park and J. Lee, "Towards Better Understanding of Training Certifiably Robust Models against
Adversarial Examples", NeurIPS 2021. One input, dense layers, an l∞ ball: the library does more, and shares no code with
this page. A number at a line's end is the paper's equation. `python -m refbound.one_page` prints a hand-worked example.

    net           the affine layers (W, bias), with a ReLU between each two          (m, n), (m,)
    ball          centre and radius of the box B(x, eps): x and eps, if not cut      (n,), (n,)
    z, h          what an affine layer gives, z = W h + bias, and a ReLU, h = z⁺     (m,)
    l, u          bounds of z over the ball: l ≤ z ≤ u                               (m,)
    a_lo, b_lo    a̲ and b̲ of the line below a ReLU: a̲ z + b̲ ≤ h                      (m,)
    a_up, b_up    ā and b̄ of the line above it: h ≤ ā z + b̄                          (m,)
    C             C(y), which makes margins z_m − z_y of logits z; or I, or −I       (c, c), (m, m)
    s             s̄, upper bounds of the margins                                     (c,)
    g, b          the linear bound: C net(x) ≤ g x + b                               (c, n), (c,)
    v             the gradient of the loss in g, at each layer                       as g
    a0            draws from U[0, 1] for each ReLU; only Section 5 uses them         (m,)

t⁺ = max(t, 0), t⁻ = min(t, 0); dt is the gradient of the loss in t. Under `thing` is `thing_vjp`, of the gradients
in its results and of its arguments (two_lines_vjp: lines for a0). At 0 t⁺ and |t| have the slope 0, t⁻ has 1.
"""

import argparse
import signal

import numpy as np

def plus(t):
    return np.maximum(t, 0)

def minus(t):
    return np.minimum(t, 0)

def add(pairs, more):
    """The sums of two lists of pairs, as of (dW, dbias)."""
    return [(a + c, b + d) for (a, b), (c, d) in zip(pairs, more)]

# ---- Section 3.1: the margins and the loss ----

def margin_matrix(y, classes):
    """C(y) = I − 1 e_yᵀ. Its row y is 0, and so is s_y."""
    return np.eye(classes) - np.eye(classes)[y]

def cross_entropy(s):
    """L(s) = log Σ exp(s_m). For s_m = z_m − z_y it is −log softmax(z)_y; for upper bounds of these it is no less."""
    return np.max(s) + np.log(np.exp(s - np.max(s)).sum())  # (1)

def cross_entropy_vjp(d, s):
    """∂L/∂s_m = exp(s_m) / Σ exp(s) = exp(s_m − L): the softmax."""
    return d * np.exp(s - cross_entropy(s))

# ---- Section 3.2: two lines around a ReLU, which is stable if l ≥ 0 (then h = z) or u ≤ 0 (then h = 0) ----

def chord(l, u):
    """u⁺ / (u⁺ − l⁻), the slope between the ends of the ReLU: that of the best line above it (Appendix C.2)."""
    width = plus(u) - minus(l)
    return plus(u) / np.where(width > 0, width, 1)

def chord_vjp(da, l, u):
    """Where l < 0 < u, a = u / (u − l): ∂a/∂l = a / (u − l), ∂a/∂u = (1 − a) / (u − l). Elsewhere a is constant."""
    a, unstable = chord(l, u), (l < 0) & (u > 0)
    da = unstable * da / np.where(unstable, u - l, 1)
    return a * da, (1 - a) * da

def zero(l, u, a0):
    """IBP: a̲ = ā = 0, l⁺ ≤ h ≤ u⁺, g = 0. The next u is W⁺ u⁺ + W⁻ l⁺ + bias: interval arithmetic (Appendix B)."""
    return 0 * l, 0 * u

def adaptive(l, u, a0):
    """CROWN: ā is the chord; a̲ is 0 or 1, whichever leaves the smaller area between the lines (0 if u = −l)."""
    return 1.0 * (plus(u) + minus(l) > 0), chord(l, u)

def parallel(l, u, a0):
    """CAP: both are the chord."""
    return chord(l, u), chord(l, u)

def two_lines(l, u, rule, a0=None):
    """The lines with the rule's slopes that touch the ReLU, at l⁺ and at u⁺. The chord has b̄ = −u⁺ l⁻ / (u⁺ − l⁻)."""
    a_lo, a_up = rule[0](l, u, a0)
    return a_lo, (1 - a_lo) * plus(l), a_up, (1 - a_up) * plus(u)

def two_lines_vjp(dline, line, l, u, rule):
    """∂b̲/∂l = 1 − a̲ where l > 0, ∂b̲/∂a̲ = −l⁺; likewise b̄ in u and ā. A slope that moves is the chord."""
    (da_lo, db_lo, da_up, db_up), (a_lo, _, a_up, _), (_, lo_moves, up_moves) = dline, line, rule
    dl, du = chord_vjp(lo_moves * (da_lo - plus(l) * db_lo) + up_moves * (da_up - plus(u) * db_up), l, u)
    return dl + (l > 0) * (1 - a_lo) * db_lo, du + (u > 0) * (1 - a_up) * db_up

# ---- Definition 1: the linear bound. Its gradient is a forward pass ----

def linear_bound(C, net, lines):
    """[(g, b)], on the way back: C net(x) ≤ g h + b for the last h, then ≤ g z + b for its z, and so on to g x + b."""
    W, bias = net[-1]
    way = [(C @ W, C @ bias)]  # the last layer is merged with C
    for (W, bias), (a_lo, b_lo, a_up, b_up) in list(zip(net, lines))[::-1]:  # without the last layer
        g, b = way[-1]
        g, b = a_up * plus(g) + a_lo * minus(g), b + plus(g) @ b_up + minus(g) @ b_lo  # above where g > 0, else below
        way += [(g, b), (g @ W, b + g @ bias)]
    return way

def linear_bound_vjp(dg, db, C, net, lines):
    """While no g changes sign, each step back is linear in g and b: the gradient runs forward; v changes, db does not.
    From (g W, b + g bias): dW = gᵀ v, dbias = gᵀ db, and v becomes v Wᵀ + db bias.
    From (a g, b + g b̄), with the line that g took: da = Σ g v, db̄ = Σ g db, and v becomes a v + db b̄.
    So v runs through the network itself, its ReLUs replaced by lines. Returns dnet, dlines, and v everywhere."""
    way, v, dnet, dlines = linear_bound(C, net, lines)[:-1], [dg], [], []
    for (W, bias), (a_lo, b_lo, a_up, b_up) in zip(net, lines):
        (g_z, _), (g_h, _) = way.pop(), way.pop()  # and v[-1] is of the x or h below
        dnet.append((g_z.T @ v[-1], g_z.T @ db))
        v_z = v[-1] @ W.T + np.outer(db, bias)
        dlines.append(((minus(g_h) * v_z).sum(0), minus(g_h).T @ db, (plus(g_h) * v_z).sum(0), plus(g_h).T @ db))
        v += [v_z, np.where(g_h > 0, a_up * v_z + np.outer(db, b_up), a_lo * v_z + np.outer(db, b_lo))]
    return dnet + [(C.T @ v[-1], C.T @ db)], dlines, v

def upper_bound(C, net, lines, ball):
    """The maximum of g x + b over the ball, and x*, where it is attained, for each row of C."""
    (g, b), (centre, radius) = linear_bound(C, net, lines)[-1], ball
    return g @ centre + np.abs(g) @ radius + b, centre + np.sign(g) * radius  # (2)

def upper_bound_vjp(ds, C, net, lines, ball):
    """dg = ds (centre + sign(g) radius) = ds x*, and db = ds."""
    return linear_bound_vjp(ds[:, None] * upper_bound(C, net, lines, ball)[1], ds, C, net, lines)

# ---- Section 3.2: the subnetworks, layer by layer ----

def preactivation_bounds(net, ball, rule):
    """[(l, u)] of each ReLU, by the lines of those below: u bounds I z, and −l bounds −I z. Returns the lines too."""
    pre, lines = [], []
    for k in range(1, len(net)):
        I = np.eye(len(net[k - 1][1]))
        (u, _), (minus_l, _) = (upper_bound(C, net[:k], lines, ball) for C in (I, -I))
        pre.append((-minus_l, u))
        lines.append(two_lines(-minus_l, u, rule))
    return pre, lines

def preactivation_bounds_vjp(dpre, net, ball, rule):
    """From the last ReLU down, its (dl, du) goes to the layers below and, by the lines, to every (dl, du) below."""
    (pre, lines), dpre, dnet = preactivation_bounds(net, ball, rule), list(dpre), [(0, 0)] * len(net)
    for k in range(len(net) - 1, 0, -1):
        dl, du = dpre.pop()
        for C, ds in ((np.eye(len(du)), du), (-np.eye(len(du)), -dl)):
            more, dlines, _ = upper_bound_vjp(ds, C, net[:k], lines[:k - 1], ball)
            dnet[:k] = add(dnet[:k], more)
            dpre = add(dpre, [two_lines_vjp(d, line, l, u, rule) for d, line, (l, u) in zip(dlines, lines, pre)])
    return dnet

# ---- Section 5: other a̲, where l < 0 < u ----

def uniform(l, u, a0):
    """a̲ = a0."""
    a_lo, a_up = adaptive(l, u, a0)
    return np.where((l < 0) & (u > 0), a0, a_lo), a_up

def sparse(l, u, a0, p=0.5, q=0.5):
    """a̲ = 1 with probability p where |l| > |u|, with probability q elsewhere; otherwise 0."""
    return uniform(l, u, a0 < np.where(-l > u, p, q))

def one_step(C, net, ball, pre, a0, eta):
    """One step of a̲ from a0, against its gradient, projected to [0, 1]. From there on it is held constant."""
    lines = [two_lines(l, u, UNIFORM, a) for (l, u), a in zip(pre, a0)]
    s, _ = upper_bound(C, net, lines, ball)
    _, dlines, _ = upper_bound_vjp(cross_entropy_vjp(1.0, s), C, net, lines, ball)
    return [np.clip(a - eta * np.sign(da_lo), 0, 1) for a, (da_lo, *_) in zip(a0, dlines)]  # (7)

# ---- The methods: a rule for the subnetworks, a rule for the whole network, and η of (7), or 0 for no step ----
# A rule: the function of the slopes; and for a̲, then for ā, 1 if it is the chord, 0 if it is held constant.
IBP, CROWN, CAP, UNIFORM, SPARSE = (zero, 0, 0), (adaptive, 0, 1), (parallel, 1, 1), (uniform, 0, 1), (sparse, 0, 1)
METHODS = {
    "ibp": (IBP, IBP, 0), "crown": (CROWN, CROWN, 0), "cap": (CAP, CAP, 0), "crown-ibp": (IBP, CROWN, 0),
    "cap-ibp": (IBP, CAP, 0), "random": (IBP, UNIFORM, 0), "sparse": (IBP, SPARSE, 0), "one-step": (IBP, UNIFORM, 2)}

def relaxation(C, net, ball, method, a0):
    """The bounds (l, u) and the lines of each ReLU."""
    inner, rule, eta = method
    pre, _ = preactivation_bounds(net, ball, inner)
    a0 = one_step(C, net, ball, pre, a0, eta) if eta else a0
    return pre, [two_lines(l, u, rule, a) for (l, u), a in zip(pre, a0)]

def margin_bounds(C, net, ball, method, a0):
    """s̄ by a method."""
    return upper_bound(C, net, relaxation(C, net, ball, method, a0)[1], ball)[0]

def margin_bounds_vjp(ds, C, net, ball, method, a0):
    """Through the whole network to its lines, by these to (l, u), and from there through the subnetworks."""
    (inner, rule, _), (pre, lines) = method, relaxation(C, net, ball, method, a0)
    dnet, dlines, _ = upper_bound_vjp(ds, C, net, lines, ball)
    dpre = [two_lines_vjp(d, line, l, u, rule) for d, line, (l, u) in zip(dlines, lines, pre)]
    return add(dnet, preactivation_bounds_vjp(dpre, net, ball, inner))

def robust_loss(C, net, ball, method, a0, beta=1.0):
    """L(s̄), and s̄."""
    ibp = margin_bounds(C, net, ball, METHODS["ibp"], a0)
    s = (1 - beta) * ibp + beta * margin_bounds(C, net, ball, method, a0)  # (3)
    return cross_entropy(s), s

def robust_loss_vjp(d, C, net, ball, method, a0, beta=1.0):
    """From L to s̄, and through both of its terms."""
    ds = cross_entropy_vjp(d, robust_loss(C, net, ball, method, a0, beta)[1])
    return add(margin_bounds_vjp((1 - beta) * ds, C, net, ball, METHODS["ibp"], a0),
               margin_bounds_vjp(beta * ds, C, net, ball, method, a0))

# ---- The example: 2-2-2-2, worked by hand in tests/networks.py ----

def show(name, *arrays):
    """A name, then the rows of the arrays."""
    print(f"{name:24}", " |".join("".join(f"{v + 0.0:9.4g}" for v in row) for a in arrays for row in np.atleast_2d(a)))

def main():
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description="The hand-worked example, step by step.")
    parser.add_argument("method", nargs="?", default="crown-ibp", choices=METHODS)
    parser.add_argument("label", nargs="?", default=0, type=int, choices=(0, 1))
    name, y = vars(parser.parse_args()).values()
    method, C, ball, W = METHODS[name], margin_matrix(y, 2), (np.zeros(2), np.ones(2)), np.array([[1, 1], [1, -1]])
    net = [(W, np.array([1, 0])), (W, np.array([-1, 0])), (np.array([[1, 1], [0, 2]]), np.array([0, 1]))]
    a0, h = [np.array([0.75, 0.25] if name == "sparse" else [0.5, 0.5])] * 2, ball[0]
    print(f"{name}: x = (0, 0), eps = 1, y = {y}. Of g, b, x* and v, the row of class {1 - y}: in that of y, g = b = 0")
    for k, (W, bias) in enumerate(net, 1):
        show(f"layer {k}: W | bias | z", W, bias, W @ h + bias)
        h = plus(W @ h + bias)
    pre, lines = relaxation(C, net, ball, method, a0)
    for k, ((l, u), (a_lo, b_lo, a_up, b_up)) in enumerate(zip(pre, lines), 1):
        show(f"layer {k}: l | u", l, u)
        show("  a_lo b_lo | a_up b_up", a_lo, b_lo, a_up, b_up)
    for place, (g, b) in zip(("h2", "z2", "h1", "z1", "x"), linear_bound(C, net, lines)):
        show(f"g | b at {place}", g[1 - y], b[1 - y])
    L, s = robust_loss(C, net, ball, method, a0)
    ds = cross_entropy_vjp(1.0, s)
    show("x* | s | L | ds", upper_bound(C, net, lines, ball)[1][1 - y], s, L, ds)
    _, dlines, way = upper_bound_vjp(ds, C, net, lines, ball)
    for place, v in zip(("x", "z1", "h1", "z2", "h2"), way):
        show(f"v at {place}", v[1 - y])
    for k, (dline, line, (l, u)) in enumerate(zip(dlines, lines, pre), 1):
        show(f"layer {k}: da_lo | da_up", dline[0], dline[2])
        show("  db_up | dl | du", dline[3], *two_lines_vjp(dline, line, l, u, method[1]))
    for k, (dW, dbias) in enumerate(robust_loss_vjp(1.0, C, net, ball, method, a0), 1):
        show(f"layer {k}: dW | dbias", dW, dbias)

if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in `... | head -3`: who reads has read enough
    main()
