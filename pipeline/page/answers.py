"""The part of the page with answers: one photo in full, many as a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from pipeline.dataset.manifest import Manifest
from pipeline.edge.cascade import UNKNOWN, Answer, Cascade
from pipeline.edge.labels import OTHER
from pipeline.edge.recipe import decode
from pipeline.listening import FORMATS
from pipeline.page import occlusion, photos
from pipeline.page.asking import as_csv, ask, reasons, seen
from pipeline.pages import markdown, render

ANSWER, MANY = (Path(__file__).with_name(f"{name}.html.jinja") for name in ("answer", "many"))
WORDS = {"confidence": "confidence", "margin": "lead over the second", "deferral": "score"}  # kinds of rules
PREVIEW, EXAMPLES = 480, 6  # px; photos
LOOKED = (
    "Orange is where the photo matters for this answer: a grey square was moved over it, and there the probability fell most "
    "(occlusion, Zeiler and Fergus 2014). Covering the part that matters most takes it from {before:.1%} to {least:.1%}. It "
    "shows what this model used, not what is right; where even the largest fall is small, it means little."
)


class Photo(NamedTuple):
    """key: unique in this session."""

    key: str
    name: str
    content: bytes


def show(cascade: Cascade, given: Sequence[Photo], manifest: Manifest | None) -> Answer:
    """Show one photo in full; of many a table, its file, and one in full. Returns the answer shown in full."""
    chosen = _many(cascade, given) if len(given) > 1 else given[0]
    _one(cascade, chosen, answer := _answer(cascade, chosen), manifest)
    return answer


def _answer(cascade: Cascade, photo: Photo) -> Answer:
    """The answer to a photo, computed once per session, so that its times do not change."""
    known: dict[tuple[Cascade, str], Answer] = st.session_state.setdefault("answers", {})
    key = cascade, photo.key
    if key not in known:
        known[key] = ask(cascade, photo.name, photo.content)
    return known[key]


def _many(cascade: Cascade, given: Sequence[Photo]) -> Photo:
    with st.spinner(f"Asking {len(given)} photos"):
        answers = [_answer(cascade, photo) for photo in given]
    failed = sum(answer.status != "ok" for answer in answers)
    st.header(f"{len(answers)} photos" + (f", {failed} of them cannot be used" if failed else ""), anchor=False)
    st.html(render(MANY, answers=answers))
    st.download_button("Download as CSV", as_csv(answers), "results.csv", "text/csv", on_click="ignore")
    place = st.selectbox(
        "Look closer at", range(len(given)), format_func=lambda i: f"{i + 1}. {given[i].name}", key="closer"
    )
    return given[place]


def _one(cascade: Cascade, photo: Photo, answer: Answer, manifest: Manifest | None) -> None:
    name = markdown(photo.name)
    if answer.status != "ok":
        st.error(f"{name} cannot be used: {markdown('; '.join(answer.failures))}. Try another photo.")
        return
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.image(_upright(photo.content), caption=name, alt=f"The photo that was asked, {photo.name}")
    with right:
        known = answer.species != UNKNOWN
        st.header(f"*{markdown(answer.species)}*" if known else "No stage is sure of a species", anchor=False)
        steps = [
            ("decode", answer.decode_ms), ("prepare", answer.preprocess_ms), *answer.infer_ms.items(),
            ("in all", answer.ms),
        ]  # fmt: skip
        told = reasons(cascade, photo.content, answer)
        st.html(render(ANSWER, answer=answer, reasons=told, steps=steps, words=WORDS, other=OTHER))
    _where_it_looked(cascade, photo, answer)
    if manifest is not None and known:
        _examples(manifest, answer.species)


def _upright(content: bytes) -> bytes:
    image = decode(content, PREVIEW, formats=FORMATS)
    image.thumbnail((PREVIEW, PREVIEW))
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=90)
    return stored.getvalue()


def _where_it_looked(cascade: Cascade, photo: Photo, answer: Answer) -> None:
    stage = next(stage for stage in cascade.stages if stage.name == answer.stage)
    label = answer.topk[0][0]
    seconds = (occlusion.ACROSS**2 + 1) * answer.infer_ms[stage.name] / 1000
    title = f"Where {stage.name} looked (asks it again, about {max(1, round(seconds))} s)"
    with st.expander(title, key="looked", on_change="rerun") as box:
        if not box.open:
            return
        with st.spinner("Covering the photo part by part"):
            ready = seen(cascade, stage, photo.content)
            found = occlusion.heat_map(stage, ready, label)
        st.image(
            [ready, occlusion.overlay(ready, found.heat)], width=240,
            caption=["What the model sees", f"What matters for {label}"],
            alt=["The photo as the model sees it", f"The photo in grey, orange where it matters for {label}"],
        )  # fmt: skip
        st.caption(LOOKED.format(before=found.before, least=found.least))


def _examples(manifest: Manifest, species: str) -> None:
    shown = photos.draw(manifest, "train", species, EXAMPLES, manifest.seed)
    tiles = [(one, tile) for one in shown if (tile := photos.tile(one.path)) is not None]
    if tiles:
        st.header(f"*{markdown(species)}* in the training photos", anchor=False)
        st.image(
            [tile for _, tile in tiles], width=photos.TILE.size, output_format="JPEG",
            caption=[one.rights for one, _ in tiles], alt=[f"Training photo of {species}"] * len(tiles),
        )  # fmt: skip
