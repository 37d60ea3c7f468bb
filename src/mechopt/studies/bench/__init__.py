"""The benchmark of backends: every mechanism family on every capable backend, each answer verified by us."""
