"""The page, run from top to bottom by Streamlit at every change. Its one argument: the resolved configuration as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import streamlit as st

from pipeline.config import Config
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.deploy.answering import place
from pipeline.edge.cascade import Cascade, load_cascade
from pipeline.edge.errors import BundleError
from pipeline.edge.labels import OTHER
from pipeline.edge.sources import EXTENSIONS
from pipeline.errors import DataError, PipelineError
from pipeline.files import sha256
from pipeline.page import photos
from pipeline.page.answers import Photo, show
from pipeline.page.start import UPLOAD_MB
from pipeline.pages import markdown

GRID = 12  # test photos at a time
ALL = "all species"


@st.cache_resource(show_spinner="Loading the models", max_entries=1)
def bundle(folder: Path, packed: str) -> Cascade:
    """The cascade in a folder; packed: hash of its description, part of the cache key."""
    return load_cascade(folder)


@st.cache_resource(show_spinner=False, max_entries=1)
def known_photos(_config: Config, settings: str) -> Manifest | None:
    """The manifest, where it and some of its photos are on this machine; settings: part of the cache key."""
    try:
        manifest = learnt_manifest(_config)
    except DataError:
        return None
    return manifest if photos.draw(manifest, "train", None, 1, 0) else None


def page(config: Config) -> None:
    folder = place(config)
    cascade = bundle(folder, sha256(folder / "cascade.json"))
    manifest = known_photos(config, config.model_dump_json())
    species = {name for stage in cascade.stages for name in stage.labels} - {OTHER}
    st.title("Which species?", anchor=False)
    st.caption(
        f"{markdown(config.experiment)}: {len(species)} species, {len(cascade.stages)} stages, asked in turn. The photo stays on "
        "the machine that serves this page."
    )
    views = {"Upload": upload, "Camera": camera, **({"Test photos": grid} if manifest else {})}
    *tabs, last = st.tabs([*views, "Thresholds"], key="view", on_change="rerun", bind="query-params")
    for tab, view in zip(tabs, views.values(), strict=True):
        if tab.open:
            with tab:
                view(cascade, manifest)
    if last.open:
        from pipeline.page import thresholds  # slow to import, and not needed to classify a photo

        with last:
            thresholds.show(config)


def upload(cascade: Cascade, manifest: Manifest | None) -> None:
    given = st.file_uploader(
        "Photos, one or many",
        [suffix[1:] for suffix in EXTENSIONS],
        accept_multiple_files=True,
        max_upload_size=UPLOAD_MB,
    )
    if given:
        show(cascade, [Photo(one.file_id, one.name, one.getvalue()) for one in given], manifest)


def camera(cascade: Cascade, manifest: Manifest | None) -> None:
    taken = st.camera_input("Take a photo", help="The browser asks first; it allows it on this machine and over https.")
    if taken:
        show(cascade, [Photo(taken.file_id, "photo of the camera", taken.getvalue())], manifest)


def grid(cascade: Cascade, manifest: Manifest | None) -> None:
    assert manifest is not None
    picked: photos.Shown | None = st.session_state.get("picked")
    if picked and not picked.path.is_file():
        st.info(markdown(f"{picked.path.name} is no longer on this machine."))
        picked = st.session_state["picked"] = None
    if picked:
        verdict = st.container()
        answer = show(cascade, [Photo(str(picked.path), picked.path.name, picked.path.read_bytes())], manifest)
        told = "right" if answer.species == picked.species else "wrong"
        verdict.markdown(f"Its true species is *{markdown(picked.species)}*: the answer is **{told}**.")
        st.divider()
    species = st.selectbox("True species", [ALL, *photos.species_of(manifest.part("test"))])
    drawn = st.session_state.setdefault("drawn", 0)
    shown = photos.draw(manifest, "test", None if species == ALL else species, GRID, manifest.seed + drawn)
    if not shown:
        st.info("No test photo of this species is on this machine.")
    else:
        st.caption("Press a photo's name, and the cascade answers it.")
    with st.container(horizontal=True):
        for k, one in enumerate(shown):
            _pick(k, one)
    st.button("Other photos", on_click=lambda: st.session_state.update(drawn=drawn + 1))


def _pick(k: int, one: photos.Shown) -> None:
    tile = photos.tile(one.path)
    with st.container(width=photos.TILE.size, gap="xsmall"):
        if tile is None:
            st.markdown("*cannot be read*")
        else:
            st.image(tile, alt=f"Test photo {k + 1} of {one.species}", output_format="JPEG")
        st.button(
            f"*{markdown(one.species)}*",
            key=f"pick{k}",
            width="stretch",
            on_click=lambda: st.session_state.update(picked=one),
        )


def main() -> None:
    config = Config.model_validate(json.loads(sys.argv[1]))
    st.set_page_config(page_title=f"{config.experiment}: which species?")
    try:
        page(config)
    except (PipelineError, BundleError, OSError) as error:
        st.error(markdown(str(error)))


if __name__ == "__main__":
    main()
