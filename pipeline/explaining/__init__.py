"""Explanations: attribution maps, tests of their faithfulness, and feature visualisation."""
