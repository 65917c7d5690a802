"""Random flips and crops of a batch of images (N, C, H, W), uint8 in and out.

Every draw comes from the generator given, a number for each image and not for each pixel.
"""

import numpy as np


def random_flip(images, rng):
    """Each image mirrored left to right with probability 1/2."""
    flip = rng.random(len(images)) < 0.5
    return np.where(flip[:, None, None, None], images[..., ::-1], images)


def random_crop(images, rng, pad=4):
    """Each image framed by `pad` zeros and cut back to its size at a uniform place."""
    n, _, height, width = images.shape
    framed = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (height, width), axis=(2, 3))  # (N, C, 2p+1, 2p+1, H, W)
    top, left = rng.integers(0, 2 * pad + 1, size=(2, n))
    return windows[np.arange(n), :, top, left]  # (N, C, H, W)


# flip, and pixels of crop: those of the paper's experiments, which move no images of mnist
AUGMENT = {"mnist": (False, 1), "cifar10": (True, 4), "svhn": (False, 4)}


def augment(images, rng, name, crop=None):
    """The random changes of data set `name` in training: a flip, then a crop by so many pixels (None: its own)."""
    flip, pad = AUGMENT[name]
    pad = pad if crop is None else crop
    images = random_flip(images, rng) if flip else images
    return random_crop(images, rng, pad) if pad else images
