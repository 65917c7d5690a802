"""Parts of the training loop: schedules, the loss of a minibatch, worker processes, optimisers, probes of the loss."""
