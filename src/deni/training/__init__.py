"""Training a population in place of one model: the trainer and its components."""
