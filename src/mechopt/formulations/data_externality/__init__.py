"""Data externality: correlated data, the information that leaks about others, and platforms that buy it."""
