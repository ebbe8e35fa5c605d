"""The report of an experiment: what it tells, its tables and pictures."""
