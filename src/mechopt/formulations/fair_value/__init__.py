"""Fair value of private data, and the platform that chooses what to pay for it."""
