"""Send photos that a device's caches do not answer to a main model on a server: store, send, merge exactly once.

Copied into the bundle beside `edge`, whose functions it is given; it imports the standard library alone.
"""
