"""Formats of photo collections: one file per format.

Each has `read(root, want)`, which lists the photos below `root`, and FORM, which says what it expects there.
"""
