"""Where a study is kept: one SQLite file."""
