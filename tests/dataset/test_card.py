"""The data card: right figures, one page that needs nothing else, and names that stay names."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from conftest import draw_photo
from PIL import Image

from pipeline.config import Config
from pipeline.dataset import card
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.matching import match, report
from pipeline.dataset.page import Part, render
from pipeline.dataset.sources.listing import ANY_GROUP
from pipeline.dataset.stages import run_stages
from pipeline.labels import LabelSpace

MakeConfig = Callable[..., Config]
EVIL = "<script>alert('&')</script> | *é* `œ` [x](http://x.org)"
LONG = "Ombrophila " + "longissima" * 10
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags, texts and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "style")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def manifest(rows: list[tuple[str, str, str, bool, str]], labels: tuple[str, ...] = ("b", "Other")) -> Manifest:
    """rows: species, split, sha256, ok, duplicate group's name."""
    table = pd.DataFrame(rows, columns=["species", "split", "sha256", "ok", "like"])
    table = table.assign(group="G", duplicate_group=pd.factorize(table["like"])[0], reason="")
    table["image_path"] = [f"G/{name}/{i}.jpg" for i, name in enumerate(table["species"])]
    table["label_id"] = [labels.index(name) if name in labels else len(labels) - 1 for name in table["species"]]
    table.loc[~table["ok"], "reason"] = "cannot be decoded: broken"
    return Manifest(table, Path("photos"), LabelSpace(labels), 7)


MANY = manifest(
    [
        ("b", "train", "1", True, "x"),
        ("b", "train", "1", True, "x"),
        ("b", "test", "2", True, "y"),
        ("c", "train", "3", True, "z"),
        ("b", "train", "4", True, "z"),
        ("c", "", "", False, "bad"),
    ]
)


def told(part: Part) -> dict[object, tuple[object, ...]]:
    return {row[0]: tuple(row[1:]) for row in part.rows}


# figures ------------------------------------------------------------------------------------------------------------


def test_overview_and_groups_count() -> None:
    overview = told(card.overview(MANY))
    assert overview["photos"] == (5,)
    assert overview["photos in no split"] == (1,)
    assert overview["train photos"] == (4,)
    assert overview["seed"] == ("7",)
    rows = told(card.groups(MANY, ["Fungi", "G"]))
    assert rows["G"] == (2, 1, 5, 4, 0, 1, 1, 2.5, 4)
    assert rows["Fungi"] == (0, 0, 0, 0, 0, 0, 0, 0, 0)


def test_every_species_is_listed_with_its_splits() -> None:
    assert card.species(MANY).rows == [(1, "b", "G", "own", 4, 3, 0, 1), (2, "c", "G", "Other", 1, 1, 0, 0)]


def test_bad_photos_have_their_reasons() -> None:
    assert card.bad_photos(MANY).rows == [("G/c/5.jpg", "cannot be decoded: broken")]
    good = Manifest(MANY.rows[MANY.rows["ok"]], MANY.root, MANY.labels, 7)
    assert "None" in card.bad_photos(good).text
    many = manifest([("b", "", "", False, str(i)) for i in range(500)])
    assert len(card.bad_photos(many).rows) == 200
    assert "The first 200 are listed" in card.bad_photos(many).text


def test_look_alikes_under_two_names_are_shown() -> None:
    part = card.duplicates(MANY)
    assert "4 photos look like another one or are of the same observation" in part.text
    assert "(2 groups; 2 of the photos are equal to the byte)" in part.text
    assert "1 groups stand under more than one species" in part.text
    assert [row[1:] for row in part.rows] == [("b", "G/b/4.jpg"), ("c", "G/c/3.jpg")]


def test_what_became_of_the_names() -> None:
    folders = {"G": ["apis melifera", "x", "y", "z"], "H": ["x"]}
    listed = {"G": ["Apis mellifera", "X ssp. major"], ANY_GROUP: ["w"]}
    told = {part.title: part for part in card.names(report(match(folders, listed | {"H": ["x"]}), folders, listed))}
    assert told["Names only in photos"].rows == [("G", 4, "apis melifera, x, y, z")]
    assert told["Names only in photos, and the nearest name"].rows == [("G", "apis melifera", "Apis mellifera")]
    assert ("(list without groups)", 1, "w") in told["Names only in region"].rows
    assert told["Names in two groups"].rows[0][0] == "x"
    assert all(part.rows for part in told.values())


def test_names_that_all_match_are_one_line() -> None:
    same = {"G": ["a b"]}
    assert [part.text for part in card.names(report(match(same, same), same, same))] == [
        "Every species is on both sides."
    ]


def test_licences_are_counted_where_they_are_known() -> None:
    assert card.credits(MANY, None) is None
    assert "Not known" in card.licences(None).text
    ledger = pd.DataFrame(
        {"image_path": MANY.rows["image_path"][:3].str.replace("jpg", "jpeg"), "licence": ["CC0", "CC-BY", "CC-BY"]}
    )
    ledger["attribution"] = ["(c) A", "(c) A", "(c) B"]
    assert card.licences(card.credits(MANY, ledger)).rows == [("CC-BY", 2, 2), ("not stated", 2, 0), ("CC0", 1, 1)]
    own = Manifest(MANY.rows.assign(licence="CC-BY-NC", holder="A"), MANY.root, MANY.labels, 7)
    assert card.licences(card.credits(own, ledger)).rows == [("CC-BY-NC", 5, 1)]
    alone = Manifest(MANY.rows.assign(licence="CC0"), MANY.root, MANY.labels, 7)
    assert card.licences(card.credits(alone, None)).rows == [("CC0", 5, 0)]


def test_whose_the_examples_are() -> None:
    paths = MANY.rows["image_path"]
    ledger = pd.DataFrame({"image_path": paths[:1], "licence": "CC0", "attribution": "(c) A"})
    known = card.credits(MANY, ledger)
    assert known is not None
    part = card.shown(MANY, known, [paths[1], paths[0]])
    assert part.rows == [(paths[1], "not stated", "not stated"), (paths[0], "CC0", "(c) A")]
    assert part.folded


def test_settings_are_one_row_each() -> None:
    rows = told(card.settings({"a": {"b": 1, "c": {"d": [1, "é"]}}, "e": None, "f": {}}))
    assert rows == {"a.b": ("1",), "a.c.d": ('[1, "é"]',), "e": ("null",), "f": ("{}",)}


# writing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    (tmp_path / "plots").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "plots" / "a b.png")
    names = [(EVIL, 1, 2.5), (LONG, 1234567, 0.0)]
    return [
        Part("Species " + EVIL, EVIL, ("name", "photos", "median"), names, [(tmp_path / "plots" / "a b.png", EVIL)]),
        Part("Nothing"),
        Part("Folded", "", ("name",), [("x",)], folded=True),
    ]


def test_the_page_needs_nothing_else_and_names_stay_names(parts: list[Part], tmp_path: Path) -> None:
    text = render(EVIL, EVIL, parts, "page.html.jinja", tmp_path)
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert page.loads
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert "default-src 'none'" in text
    assert '<meta name="viewport" content="width=device-width' in text
    assert page.texts.count(EVIL) == 6  # title, heading, lead, text, cell, caption
    assert {LONG, "1,234,567", "2.5", "0"} <= set(page.texts)


def test_markdown_tables_hold_whatever_the_names_are(parts: list[Part], tmp_path: Path) -> None:
    text = render(EVIL, EVIL, parts, "page.md.jinja", tmp_path)
    assert "<script>" not in text
    assert "](http" not in text
    assert "](plots/a%20b.png)" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [4, 4, 4, 4, 2, 2, 2]
    assert table[1] == "| --- | ---: | ---: |"
    assert LONG in text
    assert "1,234,567" in text


# the stage ----------------------------------------------------------------------------------------------------------


def test_the_stage_writes_a_card_that_is_the_same_next_time(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("train_val_split.train_size=0.4")
    folder = config.paths.src_dataset / "Insecta" / EVIL.replace("/", "_")
    folder.mkdir()
    for i in range(3):
        draw_photo(900 + i).save(folder / f"{i}.jpg")
    (folder / "bad.jpg").write_text("not a photo")
    assert run_stages(config) == 1
    page = Page((config.dataset_dir / "data_card.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert folder.name in page.texts
    assert f"Insecta/{folder.name}/bad.jpg" in page.texts
    assert "train_val_split.random_state" in page.texts
    assert "main.epochs" not in page.texts
    markdown = (config.dataset_dir / "data_card.md").read_text(encoding="utf-8")
    links = re.findall(r"^!\[.*\]\((plots/\S+)\)$", markdown, re.M)
    assert len(links) >= 8
    for link in links:
        assert (config.dataset_dir / link).is_file()
    before = (config.dataset_dir / "data_card.html").read_bytes()
    run_stages(make_config("train_val_split.train_size=0.4", "main.epochs=77", "global.overwrite=true"), only="card")
    assert (config.dataset_dir / "data_card.html").read_bytes() == before.replace(
        b"<td>global.overwrite</td><td>false</td>", b"<td>global.overwrite</td><td>true</td>"
    )


def test_the_card_names_the_licences_of_the_examples_that_it_shows(
    make_config: MakeConfig, photos: Path, tmp_path: Path
) -> None:
    rows = [path.relative_to(photos) for path in sorted(photos.rglob("*.jpg"))]
    lines = [f"{path},{path.parts[0]},{path.parts[1]},CC0" for path in rows]
    (photos / "photos.csv").write_text("\n".join(["path,group,species,licence", *lines]))
    (tmp_path / "list.json").write_text('{"Aves": ["Ardea alba"], "Insecta": ["Apis mellifera", "Pieris rapae"]}')
    config = make_config(
        "dataset.format=table",
        f"paths.web_crawl_output_json={tmp_path / 'list.json'}",
        "train_val_split.dominant_threshold=1",
    )
    run_stages(config)
    text = (config.dataset_dir / "data_card.md").read_text(encoding="utf-8")
    part = text.partition("Photos on the examples sheets")[2].partition("\n#")[0]
    assert part.count("| CC0 | not stated |") == 10  # 4 train photos of two species, 2 of the third
    assert "(plots/source_Aves_bar.png)" in text


def test_a_target_that_cannot_be_written_is_named(make_config: MakeConfig) -> None:
    config = make_config()
    run_stages(config, until="test_sets")
    (config.dataset_dir / "data_card.html").mkdir()
    with pytest.raises(OSError, match=r"data_card\.html"):
        run_stages(config, only="card")
