"""Exceptions with their exit codes, and hints for misspelt words. Messages name the cause and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The hint of an error about an unknown word: the known one with the nearest spelling, else `otherwise`."""
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


class PipelineError(Exception):
    """Base of all errors that a user can fix; shown as one sentence, with a traceback only if verbose."""

    exit_code = 1


class ConfigError(PipelineError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class DataError(PipelineError):
    """The photos, the species list or the manifest cannot be used as they are."""


class SomeFailed(PipelineError):
    """Some items failed; the others are done."""

    exit_code = 3


class LabelSpaceError(PipelineError):
    """Label spaces that must agree do not."""


class ModelError(PipelineError):
    """A model folder, its weights or its exported file cannot be used."""


class NetworkError(PipelineError):
    """A server does not answer, or answers wrongly; the same command continues later."""


class Refused(NetworkError):
    """The server refuses this one request; others may still succeed."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
