"""What helps tests of several folders."""
