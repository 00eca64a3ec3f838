"""What a text has: one label, several, a number, a tag for each word."""
