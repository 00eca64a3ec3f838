"""Members that generate text: their vote on each token or on whole answers, and how far they agree."""
