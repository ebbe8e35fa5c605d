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
    """What the cascade says of one photo; fields as in the results of `classify.py`."""

    name: str = Field(description="file name of the part, else its number")
    sha256: str = Field(description="of the bytes that were answered")
    status: Literal["ok", "failed"] = Field(description="failed: the photo cannot be read")
    failures: list[str] = Field(description="why")
    species: str
    score: float
    stage: str = Field(description="the model that answered, or was asked last")
    topk: list[Candidate]
    decode_ms: float
    preprocess_ms: float
    infer_ms: dict[str, float]

    @staticmethod
    def of(name: str, data: bytes, answer: Answer) -> Photo:
        """The cascade's answer to these bytes, as it is sent."""
        told = {key: value for key, value in vars(answer).items() if key not in ("path", "topk")}
        topk = [Candidate(label=label, score=score) for label, score in answer.topk]
        return Photo(name=name, sha256=hashlib.sha256(data).hexdigest(), topk=topk, **told)


class Answers(BaseModel):
    """One entry per photo, in the order in which they came."""

    request_id: str
    label_space: str = Field(description="hash of the names that the last stage can answer")
    photos: list[Photo]


class Problem(BaseModel):
    """Why there is no answer."""

    error: str
    request_id: str


class About(BaseModel):
    """Who answers here, and how much at once."""

    experiment: str
    label_space: str
    labels: list[str]
    stages: list[str]
    max_photos: int
    max_body_bytes: int
    max_pixels: int


class State(BaseModel):
    status: Literal["ok", "full"]
