"""What the training loop is made of: its schedule, the loss of a minibatch, threads, the optimiser, probes of the landscape."""
