"""Predict once, then measure: predictions, metrics, routing; choosing, simulation and report are packages of their own."""
