"""The part of the page with threshold sliders and their effect."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from pipeline.config import Config
from pipeline.files import sha256
from pipeline.page.trade_off import Figures, Stored, accuracy_95, curve, figures, start, stored, with_thresholds

SPLITS = {
    "val": "val: the photos that thresholds are chosen on",
    "test": "test: photos that chose nothing; look, but do not choose here, or these figures flatter",
}
BLUE, ORANGE = "#2f74b5", "#c2410c"
ROOM = 0.03  # margin of the accuracy axis, so that steps of a few photos look small


@st.cache_resource(show_spinner="Reading the stored predictions", max_entries=1)
def predictions(_config: Config, settings: str, packed: str) -> Stored:
    """The stored predictions; settings and packed: part of the cache key."""
    return stored(_config)


def show(config: Config) -> None:
    """Sliders, the figures under them, and the whole curve."""
    packed = sha256(config.output / "bundle" / "cascade.json")
    everything = predictions(config, config.model_dump_json(), packed)
    if not everything.caches:
        st.info("There is no cache in front of main, so there is no threshold to move.")
        return
    split = st.radio("Figures of", list(SPLITS), format_func=SPLITS.__getitem__, key="split")
    found = everything.part(split)
    if found.tables[0].rows.empty:
        st.info(f"The {split} part has no photo.")
        return
    moved = [
        st.slider(
            f"Threshold of {name}", 0.0, 1.0, start(rule), 0.001, format="%.3f", key=_key(name),
            help="Lowest score at which this cache answers; other photos go on to the next stage.",
        )
        for name, rule in everything.caches.items()
    ]  # fmt: skip
    st.button("Back to the bundle's thresholds", on_click=_back, args=(everything,))
    base, now = figures(found, found.rules), figures(found, with_thresholds(found, moved))
    _figures(split, base, now, accuracy_95(found, with_thresholds(found, moved), config.seed))
    if now.main_alone is not None:
        _curve(split, found, base, now)


def _key(name: str) -> str:
    return f"threshold {name}"


def _back(everything: Stored) -> None:
    st.session_state.update({_key(name): start(rule) for name, rule in everything.caches.items()})


def _figures(split: str, base: Figures, now: Figures, interval: tuple[float, float]) -> None:
    low, high = interval
    st.header(f"On {now.photos} {split} photos", anchor=False)
    with st.container(horizontal=True):
        _metric("Communication rate", now.communication, base.communication, "Share that no cache answers.")
        _metric("Accuracy", now.accuracy, base.accuracy, f"95% interval {low:.1%} to {high:.1%}.")
        if now.main_alone is not None:
            st.metric("Accuracy of main alone", f"{now.main_alone:.1%}", width="content")
        else:
            _metric("Without an answer", now.unknown, base.unknown, "Photos that no stage is sure of.")
        st.metric("Mean ms per photo", f"{now.ms:.1f}", width="content", help="From the stored times, one thread.")
    st.caption(
        f"The 95% interval of the accuracy is {low:.1%} to {high:.1%}. Below a figure: its difference, in points, to the "
        "thresholds of the bundle. Computed from the stored predictions; no network runs, and the bundle stays as it is. Its "
        "own thresholds are chosen by eval.py so that a promise holds; one that is picked here promises nothing."
    )


def _metric(label: str, now: float, base: float, help_: str) -> None:
    points = 100 * (now - base)
    delta = f"{points:+.1f} points" if abs(points) >= 0.05 else None
    st.metric(label, f"{now:.1%}", delta, delta_color="off", help=help_, width="content")


def _curve(split: str, found: Stored, base: Figures, now: Figures) -> None:
    points = pd.DataFrame(
        {
            "what": ["the bundle", "the sliders"],
            "communication": [base.communication, now.communication],
            "accuracy": [base.accuracy, now.accuracy],
        }
    )
    line = curve(found)
    x = alt.X("communication", title="communication rate", axis=alt.Axis(format="%"), scale=alt.Scale(domain=(0, 1)))
    low, high = line["accuracy"].min() - ROOM, line["accuracy"].max() + ROOM
    y = alt.Y("accuracy", title=f"accuracy on {split}", axis=alt.Axis(format="%"), scale=alt.Scale(domain=(low, high)))
    colour = alt.Color("what", title=None, scale=alt.Scale(range=[BLUE, ORANGE]), legend=alt.Legend(orient="top"))
    shape = alt.Shape("what", title=None)
    chart = alt.Chart(line).mark_line(color="grey").encode(x=x, y=y, order="threshold")
    size = alt.Size("what", title=None, scale=alt.Scale(range=[360, 110]))  # so that both are seen where they are one
    dots = alt.Chart(points).mark_point(filled=True, opacity=1).encode(x=x, y=y, color=colour, shape=shape, size=size)
    st.altair_chart(
        chart + dots,
        alt=f"Accuracy against communication rate on {split} as one threshold for all caches moves from 1 to 0; the same "
        "numbers are in the table below.",
    )
    st.caption(
        "The line: one threshold for all caches, from 1 (right, everything is sent on) to 0 (left, every hit is taken)."
    )
    with st.expander("The curve as a table"):
        told = line.iloc[::8].rename(columns={"communication": "communication rate"})
        st.table(told.round(3).astype(str), hide_index=True, alt="Threshold, communication rate, accuracy")
