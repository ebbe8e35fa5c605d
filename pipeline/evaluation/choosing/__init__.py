"""Thresholds and stages of the cascade, chosen on val: rules, the promise on accuracy, the design search."""
