"""A package, because test_run.py stands in several folders."""
