"""Reports as pages that need nothing else."""
