"""The statistics of a study: no drawing."""
