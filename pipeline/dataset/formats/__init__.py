"""Where the photos come from: one file per way of storing them.

Each has `read(root, want)`, which lists the photos below `root`, and FORM, which says what it expects there.
"""
