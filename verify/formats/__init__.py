"""Networks from files that others write, by their endings; and the run that a network is from."""
