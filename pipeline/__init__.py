"""Ommatidia: regional species data sets, tiny cache models, a main model, and the cascade that joins them."""

__version__ = "0.1.0"
