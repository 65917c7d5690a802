"""The linear and the mixed-integer programs of a network over a ball. They share no code with the bounds."""
