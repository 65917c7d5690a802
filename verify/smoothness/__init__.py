"""The quantities of the paper's Theorems 1 and 2, for small networks."""
