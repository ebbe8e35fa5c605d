"""Uploads that nobody meant: files of twelve kinds, bent at random, never bring the server down."""

from __future__ import annotations

import io
import os
import random

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

MUTATIONS = int(os.environ.get("OMMATIDIA_FUZZ", "240"))
GREY = np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8)
PICTURE = Image.fromarray(np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1))
KINDS: dict[str, tuple[Image.Image, dict[str, object]]] = {
    "jpeg": (PICTURE, {"format": "jpeg", "exif": Image.Exif().tobytes()}),
    "progressive jpeg": (PICTURE, {"format": "jpeg", "progressive": True}),
    "cmyk jpeg": (PICTURE.convert("CMYK"), {"format": "jpeg"}),
    "mpo": (PICTURE, {"format": "mpo", "save_all": True, "append_images": [PICTURE]}),
    "png": (PICTURE, {"format": "png"}),
    "16-bit png": (Image.fromarray(GREY.astype(np.uint16) * 257), {"format": "png"}),
    "palette png": (PICTURE.convert("P"), {"format": "png", "transparency": 3}),
    "webp": (PICTURE, {"format": "webp"}),
    "tiff": (PICTURE, {"format": "tiff"}),
    "tiff lzw": (PICTURE, {"format": "tiff", "compression": "tiff_lzw"}),
    "bmp": (PICTURE, {"format": "bmp"}),
    "gif": (PICTURE, {"format": "gif", "save_all": True, "append_images": [PICTURE]}),
}


def drawn(kind: str) -> bytes:
    picture, settings = KINDS[kind]
    file = io.BytesIO()
    picture.save(file, **settings)  # type: ignore[arg-type]
    return file.getvalue()


def bent(data: bytes, draw: random.Random) -> bytes:
    """Bits turned, sizes made huge, parts cut off, doubled, lost or put in: a few of them, most near the head."""
    result = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = int(len(result) * draw.random() ** 2)
        length = draw.randint(1, 1 + len(result) // 4)
        match draw.randrange(6):
            case 0:
                result[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                result[at : at + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
            case 2:
                del result[max(at, 1) :]
            case 3:
                result[at:at] = result[at : at + length]
            case 4:
                del result[at : at + length]
            case _:
                result[at:at] = draw.randbytes(length)
    return bytes(result)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of decoders, about tags
@pytest.mark.parametrize("kind", KINDS)
def test_bent_photos_are_answered_or_say_why(client: TestClient, kind: str) -> None:
    whole, draw, failed = drawn(kind), random.Random(kind), 0
    [photo] = client.post("/v1/classify", files={"photos": whole}).json()["photos"]
    assert photo["status"] == "ok", photo
    for _ in range(0, MUTATIONS, 4 * len(KINDS)):
        parts = [("photos", ("x", bent(whole, draw))) for _ in range(4)]
        response = client.post("/v1/classify", files=parts)
        assert response.status_code == 200, response.text
        told = response.json()["photos"]
        assert all(one["failures"] if one["status"] == "failed" else one["species"] for one in told)
        failed += sum(one["status"] == "failed" for one in told)
    assert failed > 0
    assert client.get("/readyz").json() == {"status": "ok"}


def test_bent_forms_are_refused_or_answered(client: TestClient) -> None:
    draw, head = random.Random(1), {"Content-Type": "multipart/form-data; boundary=frontier"}
    part = b'--frontier\r\nContent-Disposition: form-data; name="photos"; filename="a.png"\r\n\r\n'
    form = part + drawn("png")[:200] + b"\r\n" + part + b"x\r\n--frontier--\r\n"
    seen = set()
    for _ in range(MUTATIONS // 4):
        response = client.post("/v1/classify", content=bent(form, draw), headers=head)
        assert response.status_code in (200, 422), response.text
        seen.add(response.status_code)
    assert seen == {200, 422}
