"""Days in the field from stored predictions: Monte Carlo, mixes of species, scenarios."""
