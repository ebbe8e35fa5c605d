"""What clients are told, whatever they send."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from toy import COLOURS

from pipeline.edge.cascade import load_cascade
from pipeline.edge.errors import BundleError
from pipeline.edge.labels import label_hash
from pipeline.edge.model import Model
from pipeline.serving.engine import Engine

from .served import TOKEN, until

Make = Callable[..., tuple[TestClient, Engine]]
PNG = {"Content-Type": "image/png"}
URL = "/v1/classify"


def form(*photos: bytes | Path) -> list[tuple[str, tuple[str, bytes]]]:
    data = [photo if isinstance(photo, bytes) else photo.read_bytes() for photo in photos]
    return [("photos", (f"{i}.png", photo)) for i, photo in enumerate(data)]


def problem(response: Any, status: int) -> str:
    """The reason in an answer that is none."""
    assert response.status_code == status, response.text
    told = response.json()
    assert set(told) == {"error", "request_id"}
    assert response.headers["x-request-id"] == told["request_id"]
    return str(told["error"])


# answers ------------------------------------------------------------------------------------------------------------


def test_many_photos_in_a_form(client: TestClient, packed: Path, pictures: dict[str, Path]) -> None:
    species = list(COLOURS)[:4]
    response = client.post(URL, files=form(*(pictures[name] for name in species)))
    assert response.status_code == 200
    told = response.json()
    assert [photo["name"] for photo in told["photos"]] == ["0.png", "1.png", "2.png", "3.png"]
    assert told["label_space"] == label_hash(list(COLOURS))
    assert told["request_id"] == response.headers["x-request-id"]
    cascade = load_cascade(packed)
    for photo, name in zip(told["photos"], species, strict=True):
        alone = cascade.classify(pictures[name])
        assert (photo["species"], photo["score"], photo["status"]) == (alone.species, alone.score, "ok")
        assert photo["stage"] == alone.stage
        assert [(one["label"], one["score"]) for one in photo["topk"]] == alone.topk
        assert photo["sha256"] == hashlib.sha256(pictures[name].read_bytes()).hexdigest()
        assert set(photo["infer_ms"]) == set(alone.infer_ms)


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream", "IMAGE/PNG; q=1"])
def test_one_photo_as_the_body(client: TestClient, pictures: dict[str, Path], kind: str) -> None:
    body = pictures["Pieris rapæ"].read_bytes()
    response = client.post(URL, params={"topk": 2}, content=body, headers={"Content-Type": kind})
    [photo] = response.json()["photos"]
    assert (photo["species"], photo["name"], len(photo["topk"])) == ("Pieris rapæ", "0", 2)


def test_a_body_of_unknown_length(client: TestClient, pictures: dict[str, Path]) -> None:
    data = pictures["Pieris rapæ"].read_bytes()
    [photo] = client.post(URL, content=iter([data[:10], data[10:]]), headers=PNG).json()["photos"]
    assert photo["species"] == "Pieris rapæ"


def test_a_photo_that_cannot_be_read_says_why_and_the_others_are_answered(
    client: TestClient, pictures: dict[str, Path]
) -> None:
    photos = client.post(URL, files=form(b"no photo", pictures["Pieris rapæ"], b"")).json()["photos"]
    assert [photo["status"] for photo in photos] == ["failed", "ok", "failed"]
    assert photos[0]["failures"] == photos[2]["failures"] == ["is no image in a format that Pillow knows"]


def test_a_zip_bomb_is_not_unpacked(client: TestClient) -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "png")
    assert bomb.tell() < 100_000
    [photo] = client.post(URL, content=bomb.getvalue(), headers=PNG).json()["photos"]
    assert "exceeds limit of" in photo["failures"][0]


@pytest.mark.parametrize("kind", ["ppm", "pcx", "eps"])
def test_formats_that_nobody_photographs_in_reach_no_decoder(client: TestClient, kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 40)).save(file, kind)
    [photo] = client.post(URL, content=file.getvalue(), headers=PNG).json()["photos"]
    assert photo["failures"] == ["is no image in a format that Pillow knows"]


# refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
def test_a_wrong_token(make: Make, pictures: dict[str, Path], given: str) -> None:
    client, _ = make(TOKEN)
    for method, url in (("POST", URL), ("GET", "/v1/about")):
        response = client.request(method, url, headers={"Authorization": given.encode()})
        assert "the token is missing or wrong" in problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    assert client.post(URL, files=form(pictures["Pieris rapæ"])).status_code == 200
    assert client.get("/v1/about").json()["stages"] == ["cache", "main"]


def test_a_body_that_is_too_large(client: TestClient) -> None:
    said = "the body is larger than 200000 bytes; send fewer or smaller photos"
    assert problem(client.post(URL, content=b"x" * 200_001, headers=PNG), 413) == said
    assert problem(client.post(URL, content=iter([b"x" * 100_000] * 9), headers=PNG), 413) == said
    assert problem(client.post(URL, files=form(b"x" * 200_000)), 413) == said


@pytest.mark.parametrize("kind", ["", "text/html", "application/json", "image/svg+xml", "multipart/mixed"])
def test_a_wrong_content_type(client: TestClient, kind: str) -> None:
    assert f"not '{kind}'" in problem(client.post(URL, content=b"x", headers={"Content-Type": kind}), 415)


def test_forms_that_are_none(client: TestClient, pictures: dict[str, Path]) -> None:
    good = pictures["Pieris rapæ"]
    assert "Too many files" in problem(client.post(URL, files=form(*[good] * 5)), 422)
    named = 'the form must hold files named "photos", at least one, and nothing else'
    assert problem(client.post(URL, files={"photo": good.read_bytes()}), 422) == named
    assert problem(client.post(URL, files=[*form(good), ("more", ("x", b""))]), 422) == named
    assert "Too many fields" in problem(client.post(URL, files=form(good), data={"a": "b"}), 422)
    for body in (
        b"",
        b"--x",
        b"--x\r\n\r\n--x--",
        b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a',
    ):
        problem(client.post(URL, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}), 422)
    problem(client.post(URL, content=b"--x--", headers={"Content-Type": "multipart/form-data"}), 422)


def test_a_form_that_breaks_off_is_not_taken_for_a_whole_one(client: TestClient, pictures: dict[str, Path]) -> None:
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a.png"\r\n\r\n'
    whole = (part + pictures["Pieris rapæ"].read_bytes() + b"\r\n") * 2
    for cut in (whole[:-20], whole, whole + b"--x", whole + b"--x\r\n"):
        assert "breaks off before its closing boundary" in problem(client.post(URL, content=cut, headers=head), 422)
    for end in (b"--x--", b"--x--\r\n", b"--x--\r\nwhat comes after it is nobody's"):
        assert len(client.post(URL, content=whole + end, headers=head).json()["photos"]) == 2


@pytest.mark.parametrize(
    ("charset", "name", "status"),
    [
        ("utf-8", "é".encode(), 200),
        ("latin-1", "é".encode("latin-1"), 200),
        ("none of that name", b"a.png", 200),
        ("hex", b"a.png", 200),
        ("utf-7", b"+2AA-", 422),
        ("unicode-escape", rb"\udce9", 422),
        ("undefined", b"a.png", 422),
    ],
)
def test_the_charset_of_a_form(
    client: TestClient, pictures: dict[str, Path], charset: str, name: bytes, status: int
) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="photos"; filename="' + name + b'"\r\n\r\n'
    body += pictures["Pieris rapæ"].read_bytes() + b"\r\n--x--\r\n"
    head = {"Content-Type": f'multipart/form-data; boundary=x; charset="{charset}"'}
    response = client.post(URL, content=body, headers=head)
    if status == 200:
        assert response.json()["photos"][0]["name"] == ("a.png" if name == b"a.png" else "é")
    else:
        assert "the names in the form are no text in its charset" in problem(response, 422)


@pytest.mark.parametrize("topk", ["0", "-1", "1001", "many", "1.5"])
def test_a_wrong_topk(client: TestClient, topk: str) -> None:
    assert "query.topk: " in problem(client.post(URL, params={"topk": topk}, content=b"x", headers=PNG), 422)


def test_another_label_space_is_refused_by_name(client: TestClient) -> None:
    response = client.post(URL, content=b"x", headers={**PNG, "Label-Space": "0" * 12})
    mine = label_hash(list(COLOURS))
    assert problem(response, 409) == f"the photos are for the label space 000000000000; toy here has {mine}"
    assert client.post(URL, content=b"x", headers={**PNG, "Label-Space": mine}).status_code == 200


def test_unknown_pages(client: TestClient) -> None:
    assert problem(client.get("/nothing"), 404) == "Not Found"
    assert problem(client.get(URL), 405) == "Method Not Allowed"


def test_a_network_that_breaks_is_a_500(make: Make, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    client, engine = make()

    def broken(self: Any, photos: Any) -> Any:
        raise BundleError("main.onnx answers numbers that are not finite; it must be trained anew")

    monkeypatch.setattr(Model, "logits", broken)
    good = form(pictures["Pieris rapæ"], pictures["Apis mellifera"])
    assert "it must be trained anew" in problem(client.post(URL, files=good), 500)
    until(lambda: engine.admitted == 0)
    monkeypatch.undo()
    assert client.post(URL, files=good).status_code == 200


def test_what_nobody_expected_is_a_problem_too(
    make: Make, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = make()

    def broken(self: Any, photos: Any) -> Any:
        raise RuntimeError("bad allocation")

    monkeypatch.setattr(Model, "logits", broken)
    said = problem(client.post(URL, files=form(pictures["Pieris rapæ"]), headers={"X-Request-ID": "mine"}), 500)
    assert said == "the server failed; its log says why"
    assert 'ommatidia_requests_total{status="500"} 1.0' in client.get("/metrics").text
    monkeypatch.undo()
    assert client.post(URL, files=form(pictures["Pieris rapæ"])).status_code == 200


# the queue ----------------------------------------------------------------------------------------------------------


def test_a_full_queue_is_429_and_recovers(make: Make, gate: threading.Event) -> None:
    client, engine = make()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.post, URL, files=form(b"", b"", b"", b"")) for _ in range(2)]
        until(lambda: engine.admitted == 8)
        response = client.post(URL, content=b"", headers=PNG)
        assert problem(response, 429) == "the queue is full; ask again in 1 s"
        assert response.headers["retry-after"] == "1"
        full = client.get("/readyz")
        assert (full.status_code, full.json()) == (503, {"status": "full"})
        gate.set()
        assert [len(one.result().json()["photos"]) for one in waiting] == [4, 4]
    assert engine.admitted == 0
    assert client.get("/readyz").json() == {"status": "ok"}
    assert client.post(URL, content=b"", headers=PNG).status_code == 200


def test_what_waits_for_its_answer_counts_as_held(make: Make, gate: threading.Event) -> None:
    client, engine = make(held_mb=0.3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, URL, content=b"x" * 200_000, headers=PNG)
        until(lambda: engine.admitted == 1)
        assert "too much is being sent" in problem(client.post(URL, content=b"x" * 200_000, headers=PNG), 429)
        gate.set()
        assert waiting.result().status_code == 200
    assert client.post(URL, content=b"x" * 200_000, headers=PNG).status_code == 200


def test_retry_after_tells_how_long_the_queue_takes(make: Make, gate: threading.Event) -> None:
    client, engine = make()
    engine._seconds = 6.0
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.post, URL, files=form(b"", b"", b"", b"")) for _ in range(2)]
        until(lambda: engine.admitted == 8)
        expected = 8 * 6 // engine.workers
        assert client.post(URL, content=b"", headers=PNG).headers["retry-after"] == str(expected)
        gate.set()
        [one.result() for one in waiting]


# what operators ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["abc.DEF_1-2", "", "a b", "é", "x" * 129, "a\tb"])
def test_request_ids_are_echoed_when_they_are_sane(client: TestClient, given: str) -> None:
    name = client.get("/healthz", headers={"X-Request-ID": given.encode()}).headers["x-request-id"]
    assert name == given if given == "abc.DEF_1-2" else len(name) == 32


def test_metrics(client: TestClient, pictures: dict[str, Path]) -> None:
    client.post(URL, files=form(pictures["Apis mellifera"], pictures["Pieris rapæ"], b"x"))
    client.get("/nothing")
    told = client.get("/metrics").text.splitlines()
    assert 'ommatidia_requests_total{status="404"} 1.0' in told
    assert 'ommatidia_photos_total{stage="cache",status="ok"} 1.0' in told
    assert 'ommatidia_photos_total{stage="main",status="ok"} 1.0' in told
    assert 'ommatidia_photos_total{stage="none",status="failed"} 1.0' in told
    assert "ommatidia_queue_photos 0.0" in told
    assert any(line.startswith('ommatidia_batch_photos_count{stage="cache"}') for line in told)


def test_about(client: TestClient) -> None:
    told = client.get("/v1/about").json()
    assert told == {
        "experiment": "toy", "label_space": label_hash(list(COLOURS)), "labels": list(COLOURS),
        "stages": ["cache", "main"], "max_photos": 4, "max_body_bytes": 200_000, "max_pixels": 1_000_000,
    }  # fmt: skip


def test_the_interface_is_described(client: TestClient) -> None:
    told = client.get("/openapi.json").json()
    classify = told["paths"][URL]["post"]
    assert set(classify["responses"]) == {"200", *map(str, (400, 401, 408, 409, 413, 415, 422, 429, 500))}
    refs = json.dumps({status: one for status, one in classify["responses"].items() if status != "200"})
    assert refs.count("#/components/schemas/Problem") == 9
    assert classify["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["photos"]["maxItems"] == 4
    assert classify["security"] == [{"HTTPBearer": []}]
    assert "HTTPValidationError" not in told["components"]["schemas"]


def test_nothing_is_asked_of_other_servers(client: TestClient) -> None:
    for page in ("/docs", "/redoc"):  # they would load their code from elsewhere
        assert client.get(page).status_code == 404
