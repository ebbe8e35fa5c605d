"""The embedded demo set: its species, and how their photos are drawn."""
