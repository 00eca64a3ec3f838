"""A language model behind an OpenAI-compatible endpoint: one client for all that ask one."""
