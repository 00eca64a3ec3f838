"""Training the cells of a study: packs, runners, the driver."""
