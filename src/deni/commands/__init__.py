"""What each command does; `cli` has its arguments."""
