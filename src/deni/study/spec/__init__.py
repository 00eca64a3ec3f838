"""The file of a study: from YAML to cells."""
