"""mechopt."""
