"""Of the linear relaxation: how it changes with the parameters."""
