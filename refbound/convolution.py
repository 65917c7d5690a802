"""A convolution as one matrix product for each row of its kernel, at every position at once, and its adjoint.

    X (..., Ho, Wo, kh, kw, C)    what the kernel sees, P(x) (backend.py): in a row of it kw neighbouring pixels with their
                                  channels lie in a row already, so that nothing is gathered
    W (O, C, kh, kw)              the kernels
    B                             all examples, and functions of them, in one axis
"""

from .backend import Window, namespace, windows


def kernel_row(X, i):
    """What row i of the kernel sees: X (..., Ho, Wo, kh, kw, C) -> (Ho, Wo, B, kw C), a view."""
    Ho, Wo, _, kw, C = X.shape[-5:]
    return X[..., i, :, :].reshape(-1, Ho, Wo, kw * C).transpose((1, 2, 0, 3))


def pixels(W):
    """The kernels in the order in which a window is seen: (O, C, kh, kw) -> (O, kh kw C)."""
    return W.transpose((0, 2, 3, 1)).reshape(len(W), -1)


def correlate(X, K):
    """The sum over kernel rows of their products: X = P(x), K (Q, kh, kw C, O) -> (Q, Ho, Wo, B, O)."""
    Y = kernel_row(X, 0) @ K[:, None, None, 0]
    for i in range(1, K.shape[1]):
        Y += kernel_row(X, i) @ K[:, None, None, i]
    return Y


def by_phases(W, g, window):
    """Aᵀ(W, g) as a convolution of stride 1 over g, with s² kernels for each channel, interleaved.

    Row q = s t + π of the padded input met kernel row i = s x + π at output row t − x, x < k / s: each phase π sees
    the same few rows t − x of g, through every s-th row of the kernel. Rows that are padding are left out.
    """
    (H, Wd, C), k, s, p, _ = window
    taps = tuple(-(-a // b) for a, b in zip(k, s))  # k / s, the kernel filled with zeros to a multiple of s
    first = tuple(min(a // b, x - 1) for a, b, x in zip(p, s, taps))  # t
    out = tuple(-(-(a + n) // b) - t for a, n, b, t in zip(p, (H, Wd), s, first))
    phase = Window((*window.out, len(W)), taps, (1, 1), tuple(x - 1 - t for x, t in zip(taps, first)), out)
    Y = correlate(windows(g, phase), _phases(W, s, taps))  # (sh, th, tw, B, sw C)
    image = Y.transpose((3, 1, 0, 2, 4)).reshape(-1, out[0] * s[0], out[1] * s[1], C)
    top, left = (a - b * t for a, b, t in zip(p, s, first))
    return image[:, top:top + H, left:left + Wd].reshape(*g.shape[:-1], -1)


def _phases(W, stride, taps):
    """The kernels of `by_phases`: (sh, xh, xw O, sw C), in the order in which windows of g see the taps."""
    xp, (O, C, kh, kw), (sh, sw), (xh, xw) = namespace(W), W.shape, stride, taps
    if (xh * sh, xw * sw) != (kh, kw):
        W = xp.concatenate((W, xp.zeros((O, C, xh * sh - kh, kw), W.dtype)), 2)
        W = xp.concatenate((W, xp.zeros((O, C, xh * sh, xw * sw - kw), W.dtype)), 3)
    K = W.reshape(O, C, xh, sh, xw, sw)[:, :, ::-1, :, ::-1]
    return K.transpose((3, 2, 4, 0, 5, 1)).reshape(sh, xh, xw * O, sw * C)
