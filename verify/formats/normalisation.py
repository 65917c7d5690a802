"""Arithmetic on the channels of an image, taken into the convolution behind it where that is exact."""

import numpy as np


def into_convolution(scale, shift, W, bias, pads):
    """(W, bias) of the convolution of x that is this one of scale x + shift, (C,) each; computed in float64, rounded once.

    None where there is none: with padding, which is 0 behind a shift.
    """
    if any(pads) and shift.any():
        return None
    weight = W * scale[:, None, None].astype(float)
    return weight.astype(W.dtype), (bias + np.einsum("ochw,c->o", W, shift.astype(float))).astype(W.dtype)
