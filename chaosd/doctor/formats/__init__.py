"""How a diagnosis is said: one file for each format."""
