"""A cascade behind HTTP, for photos that a device cannot answer."""
