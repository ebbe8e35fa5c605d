"""Which species live in the region: one file per kind of list."""
