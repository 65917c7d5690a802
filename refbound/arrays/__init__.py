"""The machine: what makes refbound fast and runs it on a GPU. Not needed to understand the method.

    ops       array modules (NumPy, CuPy, autograd), images in rows, windows, convolutions as matrix products
    device    "cpu" or "cuda"
    field     receptive fields: what one position of a convolution sees, for bounds layer by layer
    blocks    how many rows of the identity a bound takes at a time
"""
