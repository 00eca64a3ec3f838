"""Pre-trained models: loading them, their tokens, what differs between architectures."""
