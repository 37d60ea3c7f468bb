"""Second floor: one wing a paper, every wing with the same rooms."""
