"""How unstable a fine-tuning is, why, and what would help."""
