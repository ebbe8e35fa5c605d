"""Exceptions with their exit codes, and hints for misspelt words. Messages name the cause and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The hint of an error about an unknown word: up to three known ones that are spelt alike, else `otherwise`."""
    near = difflib.get_close_matches(word, sorted(known))
    return f"did you mean {' or '.join(near)}?" if near else otherwise


class PipelineError(Exception):
    """Base of all errors that a user can mend; shown in one sentence, without a traceback unless verbose."""

    exit_code = 1


class ConfigError(PipelineError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class DataError(PipelineError):
    """The photos, the species list or the manifest cannot be used as they are."""


class SomeFailed(PipelineError):
    """Some of the things asked for could not be done; the others are."""

    exit_code = 3


class LabelSpaceError(PipelineError):
    """Two things that must speak of the same species do not."""


class ModelError(PipelineError):
    """A model folder, its weights or its exported file cannot be used."""


class NetworkError(PipelineError):
    """A server does not answer, or not with what was asked for; the same command goes on later."""


class Refused(NetworkError):
    """The server answers, but will not give this one thing; others may still be had."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
