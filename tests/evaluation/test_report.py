"""The report: one file that a browser opens, with everything in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toy import Experiment

from pipeline.config import Config
from pipeline.dataset.manifest import learnt_manifest
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.experiment import basis, chosen
from pipeline.evaluation.predict import predict_stages
from pipeline.evaluation.report.channels import draw
from pipeline.evaluation.report.facts import of_data
from pipeline.evaluation.report.report import named_curves, write_report
from pipeline.evaluation.report.results import layer_pictures, of_results
from pipeline.evaluation.run import evaluate
from pipeline.evaluation.simulation.simulation import monte_carlo
from pipeline.evaluation.tables import judge
from pipeline.pages import render, thumbnail

from .tables import table

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PROBE = """<script>
const failed = []; window.onerror = text => failed.push(text);
onload = () => parent.postMessage(JSON.stringify({failed, wide: document.documentElement.scrollWidth,
  images: document.images.length, broken: [...document.images].filter(i => !i.naturalWidth).length}), "*");
</script></head>"""
FRAME = """<body style="margin:0"><iframe src="page.html" width="{width}" height="800" style="border:0"></iframe>
<script>onmessage = message => document.title = message.data</script></body>"""


@pytest.fixture(scope="module")
def reported(measured: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    copy = measured.copy(tmp_path_factory.mktemp("reported") / "root")
    monte_carlo(copy.config(), "both", "toy")
    for photo in (copy.root / "regional" / "Insecta" / "Zygène d'été").iterdir():
        photo.unlink()
    write_report(copy.config())
    return copy


class Text(HTMLParser):
    """What a reader sees, and the addresses that the page would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen, self.fetched = "", []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.seen += data

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attributes if name in ("src", "href")]


def test_the_report_tells_every_headline_figure_and_fetches_nothing(reported: Experiment) -> None:
    output = reported.config().output
    page = Text((output / "report.html").read_text(encoding="utf-8"))
    assert all(address.startswith(("data:image/", "#")) for address in page.fetched)
    assert sum(address.startswith("data:image/png") for address in page.fetched) >= 20  # each picture, and its link
    metrics = json.loads((output / "metrics.json").read_text())
    cascade = metrics["cascade"]["int8"]
    assert "cache_0.5_0: hit rate" in page.seen
    for name in ("accuracy", "macro_f1", "main_alone_accuracy", "communication_rate"):
        assert f"{cascade[name]:.3f}" in page.seen
        assert f"{cascade[f'{name}_95'][0]:.3f}" in page.seen
    for precision in ("fp32", "int8"):
        for name, value in metrics["cascade"][precision].items():
            if f"{name}_95" in metrics["cascade"][precision]:
                assert f"{value:.3f} [{metrics['cascade'][precision][f'{name}_95'][0]:.3f}, " in page.seen
        for both in metrics["models"].values():
            for name in ("macro_precision", "weighted_recall", "weighted_f1"):
                low, high = both[precision][f"{name}_95"]
                assert f"{both[precision][name]:.3f} [{low:.3f}, {high:.3f}]" in page.seen
    for both in metrics["models"].values():
        for precision in ("fp32", "int8"):
            assert f"{both[precision]['accuracy']:.3f}" in page.seen
            assert both[precision]["sha256"][:16] in page.seen
    for word in (
        "Apis mellifera",
        "Zygène d'été",
        metrics["manifest"],
        "toy_both",
        "random_state: 42",
        "answered here",
        "burst of Apis mellifera",
        "epoch kept",
        "from file to its answer",
    ):
        assert word in page.seen
    assert not re.search(r"\bnan\b|\bNone\b|Undefined", page.seen)


def test_the_short_report(reported: Experiment) -> None:
    text = (reported.config().output / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# toy\n\nA cascade of 2 models for 5 species. On 30 photos")
    tables = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert len(tables) > 25
    assert "&" not in text  # nothing is escaped for HTML


def test_reports_of_other_days_are_tables_too(reported: Experiment) -> None:
    folder = reported.config().output / "evaluation"
    for name in ("scenarios", "posthoc", "posthoc_trained", "curves"):
        assert len((folder / f"{name}.csv").read_text().splitlines()) >= 2


def test_each_model_alone_has_its_pictures(reported: Experiment) -> None:
    folder = reported.config().output / "evaluation"
    for model in ("main", "cache_0.5_0"):
        for name in ("confusion_matrix.png", "class_f1_scores.png"):
            with Image.open(folder / f"{model}.int8" / name) as image:
                assert image.width > 200


def test_species_whose_curves_are_asked_for_must_be_known(reported: Experiment, tmp_path: Path) -> None:
    copy = reported.copy(tmp_path / "root")
    picture = copy.config().output / "evaluation" / "plots" / "curves.png"
    before = picture.read_bytes()
    hint = "main does not know 'Apis melifera'; did you mean Apis mellifera"
    with pytest.raises(ConfigError, match=f"report.curves: {hint}"):
        write_report(copy.config("report.curves=[Apis melifera]"))
    assert picture.read_bytes() == before
    write_report(copy.config("report.curves=[Apis mellifera]"))
    assert picture.read_bytes() != before


def test_species_without_a_test_photo_has_no_curve_and_that_is_told(
    tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    judged = judge(table(["bee", "bee", "fly"], np.eye(3), ["bee", "fly", "moth"]))
    found = named_curves(["fly", "moth"], "main", {"main": judged}, tmp_path / "curves.png")
    assert set(found["species"]) == {"bee", "fly"}
    assert lines() == ["report    no curve of moth: no test photo is of it"]


@pytest.mark.skipif(BROWSER is None, reason="no headless browser here")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_opens_it_without_errors_at_phone_and_desktop_width(
    reported: Experiment, tmp_path: Path, width: int
) -> None:
    page = (reported.config().output / "report.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(page.replace("</head>", PROBE, 1), encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [
        "--window-size=1300,900",
        "--virtual-time-budget=5000",
        "--dump-dom",
        (tmp_path / "frame.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    found = json.loads(title[1].replace("&quot;", '"'))
    assert found["failed"] == []
    assert found["images"] > 20
    assert found["broken"] == 0
    assert found["wide"] <= width


def test_what_was_drawn_of_other_weights_is_no_part_of_the_report(evaluated: Config) -> None:
    tables = [table(["a"], np.zeros((1, 1)), ["a"])]
    tables[0].card["weights_sha256"] = "today's"
    for name, weights in (("main_bee", "today's"), ("main_fly", "older")):
        draw(
            np.zeros((8, 8, 3), np.uint8),
            {"x": np.zeros((1, 4, 4), np.float32)},
            "",
            evaluated.output / "channels" / f"{name}.png",
            weights=weights,
        )
    assert list(layer_pictures(evaluated, tables)) == ["main_bee"]
    for basis_, linked in ((basis(evaluated), True), ("older", False)):
        pd.DataFrame({"image_path": ["a"], "basis": [basis_]}).to_csv(evaluated.output / "evaluation" / "features.csv")
        assert ('href="features.html"' in write_report(evaluated).read_text(encoding="utf-8")) == linked


def test_a_report_needs_an_evaluation_that_fits(experiment: Experiment) -> None:
    config = experiment.config()
    with pytest.raises(DataError, match=r"no evaluation \(run eval.py with the same --config first\) at"):
        write_report(config)
    evaluate(config)
    with pytest.raises(DataError, match="does not fit the predictions or settings; run eval.py again"):
        write_report(experiment.config("route.threshold=0.9"))


def test_results_of_other_models_or_thresholds_are_left_out_and_told(
    reported: Experiment, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    copy = reported.copy(tmp_path / "root")
    config = copy.config()
    simulation = config.output / "monte_carlo" / "toy_both.json"
    tables = predict_stages(config, learnt_manifest(config), config.route.precision)
    fits, others = (
        basis(config, chosen(settings, tables).rules) for settings in (config, copy.config("route.threshold=0.9"))
    )
    assert fits != others
    assert [row["name"] for row in of_results(config, {fits})["simulations"]] == ["toy_both"]
    lines()
    assert of_results(config, {others})["simulations"] == []
    told = f"report    left out, for it was made from other models or thresholds: {simulation}; run its command again"
    assert told in lines()


def test_simulated_days_tell_their_settings(reported: Experiment, tmp_path: Path) -> None:
    copy = reported.copy(tmp_path / "root")
    mix = [
        "dominant={Apis mellifera: 0.8}",
        "missing=[Vanessa atalanta]",
        "dirichlet=20",
        "replacement=false",
        "samples=10",
    ]
    monte_carlo(copy.config(*(f"monte_carlo.{one}" for one in mix)), "big", "burst")
    told = {row["name"]: row["mix"] for row in of_results(copy.config(), {basis(copy.config())})["simulations"]}
    assert told["burst_big"] == (
        "test, photos, 80 % Apis mellifera, no Vanessa atalanta, varied by Dirichlet 20, no photo twice"
    )


def test_a_report_is_written_anew_only_when_something_in_it_changed(
    reported: Experiment, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    config = reported.copy(tmp_path / "root").config()
    written = write_report(config).stat().st_mtime_ns
    write_report(config)
    assert lines()[-1] == "report    up to date"
    monte_carlo(config, "big", "more")
    (config.dataset_dir / "test_sets" / "DI1").mkdir(parents=True)  # as test_sets.export leaves it
    page = write_report(config)
    assert page.stat().st_mtime_ns > written
    assert "more_big" in page.read_text(encoding="utf-8")
    page.unlink()
    assert write_report(config).is_file()


def test_a_cascade_without_main(experiment: Experiment) -> None:
    config = experiment.config("route.stages=[cache_0.5_0]", "route.threshold=0.5")
    evaluate(config)
    page = Text(write_report(config).read_text(encoding="utf-8")).seen
    assert "it has no main model" in page
    assert "ece" in json.loads((config.output / "metrics.json").read_text())["cascade"]["int8"]
    closed = experiment.config("route.stages=[cache_0.5_0]", "route.threshold=1.0")
    evaluate(closed)
    # nothing is answered, so there is no calibration to tell
    assert "ece" not in json.loads((closed.output / "metrics.json").read_text())["cascade"]["int8"]
    assert "100 % of the photos get no answer" in Text(write_report(closed).read_text(encoding="utf-8")).seen
    assert "A cache without training" not in page


def test_photos_in_no_split_are_no_photos_that_it_was_trained_on(evaluated: Config) -> None:
    manifest = learnt_manifest(evaluated)
    rows = manifest.rows.copy()
    rows.loc[0, ["ok", "split"]] = [False, ""]
    rows.loc[1:3, "split"] = ""
    text = of_data(replace(manifest, rows=rows))["data"]["text"]
    assert text.startswith("56 photos of 5 species")
    assert text.endswith("1 more photos cannot be used. 3 more are in no split; the manifest has the reasons.")


def test_names_cannot_break_out_of_a_page(tmp_path: Path) -> None:
    (tmp_path / "page.html.jinja").write_text("<p>{{ name }}</p>")
    (tmp_path / "page.md.jinja").write_text("{{ name }}")
    assert render(tmp_path / "page.html.jinja", name="<script>") == "<p>&lt;script&gt;</p>"
    assert render(tmp_path / "page.md.jinja", name="a & b") == "a & b"


def test_thumbnails_are_small_and_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    Image.new("RGB", (400, 200), "red").save(tmp_path / "a.jpg", exif=exif)
    assert thumbnail(tmp_path / "a.jpg").startswith("data:image/jpeg;base64,")
    assert len(thumbnail(tmp_path / "a.jpg", 64)) < 2000
    (tmp_path / "b.jpg").write_text("not a picture")
    assert thumbnail(tmp_path / "b.jpg") == thumbnail(tmp_path / "none.jpg") == ""
