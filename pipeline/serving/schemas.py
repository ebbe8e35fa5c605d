"""Schemas of the server's JSON."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, Field

from pipeline.edge.cascade import Answer


class Candidate(BaseModel):
    label: str
    score: float = Field(ge=0, le=1)


class Photo(BaseModel):
    """The cascade's answer to one photo; fields as in the results of `classify.py`."""

    name: str = Field(description="file name of the part, else its number")
    sha256: str = Field(description="SHA-256 of the photo's bytes")
    status: Literal["ok", "failed"] = Field(description="failed: the photo cannot be read")
    failures: list[str] = Field(description="reasons of a failure")
    species: str
    score: float
    stage: str = Field(description="the model that answered, or ran last")
    topk: list[Candidate]
    decode_ms: float
    preprocess_ms: float
    infer_ms: dict[str, float]

    @staticmethod
    def of(name: str, data: bytes, answer: Answer) -> Photo:
        """The response entry of the cascade's answer to these bytes."""
        told = {key: value for key, value in vars(answer).items() if key not in ("path", "topk")}
        topk = [Candidate(label=label, score=score) for label, score in answer.topk]
        return Photo(name=name, sha256=hashlib.sha256(data).hexdigest(), topk=topk, **told)


class Answers(BaseModel):
    """One entry per photo, in the order of the request."""

    request_id: str
    label_space: str = Field(description="hash of the last stage's labels")
    photos: list[Photo]


class Problem(BaseModel):
    """The error of a request."""

    error: str
    request_id: str


class About(BaseModel):
    """The server's models and limits."""

    experiment: str
    label_space: str
    labels: list[str]
    stages: list[str]
    max_photos: int
    max_body_bytes: int
    max_pixels: int


class State(BaseModel):
    status: Literal["ok", "full"]
