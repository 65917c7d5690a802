"""What the training loop is made of: schedules, the loss of a minibatch, threads, optimisers, probes of the loss."""
