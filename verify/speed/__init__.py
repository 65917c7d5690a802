"""How long a training step takes: refbound and the others in turn, each in a process of its own."""
