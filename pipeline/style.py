"""Colours of all pictures."""

from __future__ import annotations

GREEN, RED, BLUE, SLATE, OCHRE = "#3b7a57", "#b3412c", "#2f5d8a", "#46627f", "#c58b2a"
COLOURS = (GREEN, RED, BLUE, "#b8860b", "#6b4c9a", "#444444", "#1f9e9e", "#c06090")  # of systems side by side
