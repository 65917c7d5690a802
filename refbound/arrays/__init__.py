"""The machine: what makes refbound fast and runs it on a GPU. Not needed to understand the method."""
