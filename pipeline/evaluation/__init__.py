"""Predict once, then measure: metrics, routing, Monte Carlo, reports."""
