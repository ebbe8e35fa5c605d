"""Exceptions of the code on the device."""

from __future__ import annotations


class UnreadableImage(ValueError):
    """This file cannot be looked at; the message says why, without the path."""


class BundleError(Exception):
    """A model file or a cascade cannot be used; the message says why and what to do."""
