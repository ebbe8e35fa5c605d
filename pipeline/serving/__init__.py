"""A cascade behind HTTP: what a device cannot answer is asked here."""
