"""Photos that the caches of a device do not answer, sent to a main model elsewhere: kept, sent, merged exactly once.

Copied into the bundle beside `edge`, whose functions it is given; it imports the standard library alone.
"""
