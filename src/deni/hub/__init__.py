"""Models of the hub by their ids: names, downloads, uploads, and what can go wrong. No model is read here."""
