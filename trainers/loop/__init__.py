"""What the training loop is made of: schedules, the loss of a minibatch, worker processes, optimisers, probes of the loss."""
