"""The stages region and download, as the configuration asks for them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sources.server import Answer, Server, check_list_page
from sources.snapshot import write_snapshot
from sources.test_download import jpeg

from pipeline.config import Config
from pipeline.dataset.stages import run_stages
from pipeline.errors import ConfigError, DataError, NetworkError

MakeConfig = Callable[..., Config]
Lines = Callable[[], list[str]]
PAGES = [{"Aves": ["Pica pica"]}, {"Aves": ["Ardea alba"], "Insecta": ["Apis mellifera", "Vespa crabro"]}, {}]
LISTED = {"Aves": ["Ardea alba", "Pica pica"], "Insecta": ["Apis mellifera", "Vespa crabro"]}
CONTACT = "region.contact=test@example.org"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.pages |= {f"/list?page={n}&view=plain": Answer(check_list_page(page)) for n, page in enumerate(PAGES, 1)}
    made.pages |= {f"/photos/{n}/medium.{ending}": Answer(jpeg(n)) for n, ending in ENDINGS.items()}
    yield made
    made.close()


ENDINGS = {101: "jpg", 102: "jpeg", 103: "jpg", 104: "jpg", 105: "png", 108: "jpg"}


@pytest.fixture
def crawling(make_config: MakeConfig, server: Server) -> MakeConfig:
    """A configuration whose source is the check list."""
    base = f"web_crawl.base_url={server.url}/list?page="

    def make(*more: str) -> Config:
        return make_config("region.source=check_list", CONTACT, base, "web_crawl.delay_between_requests=0.001", *more)

    return make


def region(config: Config) -> Any:
    return json.loads((config.dataset_dir / "region.json").read_text(encoding="utf-8"))


def observed(config: Config) -> Any:
    return json.loads((config.dataset_dir / "region_observations.json").read_text(encoding="utf-8"))


def matched_observations(config: Config) -> Any:
    return json.loads((config.dataset_dir / "matched_observations.json").read_text(encoding="utf-8"))


def test_no_source_does_nothing(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config()
    run_stages(config, until="match")
    assert [line.split()[0] for line in lines()] == ["analyse", "match"]
    assert not (config.dataset_dir / "region.json").exists()


# check list ---------------------------------------------------------------------------------------------------------


def test_the_crawled_list_is_what_is_matched(crawling: MakeConfig, lines: Lines) -> None:
    config = crawling()
    assert run_stages(config, until="match") == 0
    told = lines()
    assert told[0] == "region    4 species in 2 groups"
    assert told[2] == "match     3 species of 6 with photos and 4 listed"
    assert region(config) == LISTED
    assert observed(config) == {}
    report = json.loads((config.dataset_dir / "match_report.json").read_text())
    assert report["only_in_region"] == {"Aves": [], "Insecta": ["Vespa crabro"]}
    run_stages(config, until="match")
    assert all("up to date" in line for line in lines())


def test_the_users_output_file_is_written_and_read(crawling: MakeConfig, server: Server, tmp_path: Path) -> None:
    target = tmp_path / "output" / "haute_garonne.json"
    config = crawling(f"paths.web_crawl_output_json={target}")
    run_stages(config, until="region")
    assert json.loads(target.read_text()) == LISTED
    assert len(server.log) == 3


def test_a_list_that_is_there_is_taken_and_not_crawled_for(
    crawling: MakeConfig, server: Server, tmp_path: Path, lines: Lines
) -> None:
    target = tmp_path / "mine.json"
    target.write_text('{"Aves": ["Pica pica"]}')
    config = crawling(f"paths.web_crawl_output_json={target}")
    run_stages(config, until="region")
    assert region(config) == {"Aves": ["Pica pica"]}
    assert server.log == []
    told = lines()
    assert told[0].startswith(f"  nothing tells which address {target} is from")
    assert f"as {target} has them; global.overwrite=true crawls again" in told[1]
    target.write_text('{"Aves": ["Ardea alba"]}')
    run_stages(config, until="region")
    assert region(config) == {"Aves": ["Ardea alba"]}


def test_overwrite_asks_for_a_finished_list_again_and_goes_on_with_an_unfinished_one(
    crawling: MakeConfig, server: Server
) -> None:
    run_stages(crawling(), until="region")
    run_stages(crawling("global.overwrite=true"), until="region")
    assert set(server.times().values()) == {2}
    last = "/list?page=3&view=plain"
    server.pages[last] = Answer(status=404 + 6)
    with pytest.raises(NetworkError):
        run_stages(crawling("global.overwrite=true"), until="region")
    server.pages[last] = Answer(check_list_page({}))
    run_stages(crawling("global.overwrite=true"), until="region")
    assert server.times() == {"/list?page=1&view=plain": 3, "/list?page=2&view=plain": 3, last: 4}


def test_another_address_is_another_crawl(crawling: MakeConfig, server: Server, tmp_path: Path) -> None:
    run_stages(crawling(), until="region")
    server.pages["/other?page=1&view=plain"] = Answer(check_list_page({"Aves": ["Milvus milvus"]}))
    other = crawling(f"web_crawl.base_url={server.url}/other?page=")
    run_stages(other, until="region")
    assert region(other) == {"Aves": ["Milvus milvus"]}


def test_a_kept_list_is_crawled_again_where_more_pages_or_another_address_are_asked_for(
    crawling: MakeConfig, server: Server, tmp_path: Path, lines: Lines
) -> None:
    kept = f"paths.web_crawl_output_json={tmp_path / 'output' / 'list.json'}"
    run_stages(crawling(kept, "web_crawl.total_pages=1"), until="region")
    assert "page 1 is the last that web_crawl.total_pages allows" in lines()[0]
    run_stages(crawling(kept), until="region")
    assert region(crawling(kept)) == LISTED
    assert set(server.times().values()) == {1}
    server.pages["/other?page=1&view=plain"] = Answer(check_list_page({"Aves": ["Milvus milvus"]}))
    other = crawling(kept, f"web_crawl.base_url={server.url}/other?page=")
    run_stages(other, until="region")
    assert region(other) == {"Aves": ["Milvus milvus"]}
    run_stages(crawling(kept), until="region")
    assert region(crawling(kept)) == LISTED


def test_a_list_that_was_changed_by_hand_is_not_crawled_over(crawling: MakeConfig, tmp_path: Path) -> None:
    target = tmp_path / "list.json"
    config = crawling(f"paths.web_crawl_output_json={target}", "web_crawl.total_pages=1")
    run_stages(config, until="region")
    target.write_text('{"Aves": ["Ardea alba"]}')
    run_stages(config, until="region")
    assert region(config) == {"Aves": ["Ardea alba"]}
    more = crawling(f"paths.web_crawl_output_json={target}")
    with pytest.raises(DataError, match=r"list.json was changed by hand .*name another file in paths.web_crawl_output"):
        run_stages(more, until="region")
    assert json.loads(target.read_text()) == {"Aves": ["Ardea alba"]}
    target.unlink()
    run_stages(more, until="region")
    assert region(more) == LISTED


def test_a_check_list_without_address_is_refused(crawling: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="web_crawl.base_url is empty; name your region's check list"):
        run_stages(crawling("web_crawl.base_url=''"), until="region")


def test_an_empty_list_is_an_error(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    config = make_config("region.source=species_list", f"region.file={tmp_path / 'empty.txt'}")
    with pytest.raises(DataError, match="source species_list gives no species"):
        run_stages(config, until="region")


def test_a_missing_package_says_how_to_get_it(crawling: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pipeline.dataset.sources.check_list", None)
    with pytest.raises(DataError, match=r"source check_list needs the package .*: pip install 'ommatidia\[region\]'"):
        run_stages(crawling(), until="region")


def test_the_packages_of_the_extra_are_imported_only_where_a_source_needs_them() -> None:
    packages = ("bs4", "duckdb", "pyinaturalist", "requests", "shapely")
    code = f"import sys, pipeline.dataset.stages; print([name for name in {packages} if name in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# files --------------------------------------------------------------------------------------------------------------


def test_a_list_of_the_users_own_with_frequencies(make_config: MakeConfig, tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "region.csv"
    path.write_text("group,species,count\nAves,Pica pica,7\nInsecta,Apis mellifera L.,3\n")
    config = make_config("region.source=species_list", f"region.file={path}")
    run_stages(config, until="match")
    told = lines()
    assert told[0] == "region    2 species in 2 groups, 10 observations"
    assert told[2] == "match     1 species of 6 with photos and 2 listed; 1 more by region.names=normalised"
    assert observed(config) == {"Aves": {"Pica pica": 7}, "Insecta": {"Apis mellifera L.": 3}}
    run_stages(
        make_config("region.source=species_list", f"region.file={path}", "region.names=normalised"), until="match"
    )
    assert "match     2 species of 6 with photos and 2 listed, 1 of them spelt differently" in lines()
    assert matched_observations(config) == {"Aves": {"Pica pica": 7}, "Insecta": {"Apis mellifera": 3}}
    path.write_text("group,species\nAves,Ardea alba\n")
    run_stages(config, until="match")
    assert region(config) == {"Aves": ["Ardea alba"]}


def test_a_table_of_synonyms(make_config: MakeConfig, tmp_path: Path, lines: Lines) -> None:
    (tmp_path / "list.txt").write_text("Artogeia rapae\nPica pica\n")
    (tmp_path / "synonyms.csv").write_text("synonym,accepted\nArtogeia rapae,Pieris rapae\n")
    asked = ["region.source=species_list", f"region.file={tmp_path / 'list.txt'}"]
    run_stages(make_config(*asked, f"region.synonyms={tmp_path / 'synonyms.csv'}"), until="match")
    assert lines()[-1] == "match     2 species of 6 with photos and 2 listed, 1 of them spelt differently"


@pytest.mark.parametrize(
    "text",
    [
        "group,species,count\nAves,Ardea alba,40\nAves,Pica pica,60\nInsecta,Apis mellifera L.,60\nInsecta,Artogeia rapae,40\n",
        "species,count\nArdea alba,40\nPica pica,60\nApis mellifera L.,60\nArtogeia rapae,40\n",
    ],
    ids=["groups", "no groups"],
)
@pytest.mark.parametrize("given", ["region.file", "paths.web_crawl_output_json"])
def test_the_region_s_frequencies_reach_the_labels_whatever_the_list_calls_the_species(
    make_config: MakeConfig, tmp_path: Path, lines: Lines, text: str, given: str
) -> None:
    (tmp_path / "list.csv").write_text(text)
    (tmp_path / "synonyms.csv").write_text("synonym,accepted\nArtogeia rapae,Pieris rapae\n")
    config = make_config(
        *(["region.source=species_list"] if given == "region.file" else []),
        f"{given}={tmp_path / 'list.csv'}",
        "region.names=normalised",
        f"region.synonyms={tmp_path / 'synonyms.csv'}",
        f"labels.weights={tmp_path / 'output/tiny/dataset/matched_observations.json'}",
    )
    run_stages(config, until="label")
    seen = {"Aves": {"Ardea alba": 40, "Pica pica": 60}, "Insecta": {"Apis mellifera": 60, "Pieris rapae": 40}}
    assert matched_observations(config) == seen
    chosen = json.loads((config.dataset_dir / "dominant_species.json").read_text())
    assert chosen == {"Aves": ["Pica pica"], "Insecta": ["Apis mellifera"]}  # by the photos it would be Ardea alba
    assert not any("no observation" in line for line in lines())
    (tmp_path / "list.csv").write_text(text.replace("alba,40", "alba,90"))
    run_stages(config, until="label")
    chosen = json.loads((config.dataset_dir / "dominant_species.json").read_text())
    assert chosen["Aves"] == ["Ardea alba"]


def test_species_that_the_weights_do_not_know_are_told(make_config: MakeConfig, tmp_path: Path, lines: Lines) -> None:
    (tmp_path / "w.json").write_text(
        '{"Aves": {"Pica pica": 9}, "Insecta": {"Apis mellifera L.": 900, "Pieris rapae": 1}}'
    )
    run_stages(
        make_config(f"labels.weights={tmp_path / 'w.json'}", "train_val_split.dominant_threshold=1"), until="label"
    )
    told = f"  4 of 6 species have no observation in {tmp_path / 'w.json'}, e.g. Ardea alba"
    assert told in lines()


# Open Data ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_data(make_config: MakeConfig, server: Server, tmp_path: Path) -> MakeConfig:
    """A configuration whose source is a snapshot, with a download into an empty source folder."""
    folder = write_snapshot(tmp_path / "snapshot")
    asked = [
        "region.source=open_data", f"region.file={folder}", "region.box=[1, 43, 2, 44]", "region.memory_gb=0.5",
        "region.photos.download=true", f"region.photos.url={server.url}/photos", CONTACT,
        "web_crawl.delay_between_requests=0.001", f"paths.src_dataset={tmp_path / 'new' / 'photos'}",
    ]  # fmt: skip

    def make(*more: str) -> Config:
        return make_config(*asked, *more)

    return make


def ledger(config: Config) -> pd.DataFrame:
    return pd.read_parquet(config.dataset_dir / "ledger.parquet")


def test_open_data_from_the_tables_to_the_manifest(open_data: MakeConfig, server: Server, lines: Lines) -> None:
    config = open_data("train_val_split.dominant_threshold=1")
    assert run_stages(config, until="manifest") == 1  # the gif is not read
    told = lines()
    assert told[0] == "region    3 species in 2 groups, 5 observations, 7 photos"
    assert told[1] == "  1 photos: 'gif' is no format that is read"
    assert told[2].startswith("download  6 photos in ")
    assert "match     3 species of 3 with photos and 3 listed" in told
    rows = pd.read_parquet(config.dataset_dir / "dataset_manifest.parquet").merge(ledger(config), on="image_path")
    assert len(rows) == 6
    assert (rows["sha256_x"] == rows["sha256_y"]).all()
    assert set(rows["licence"]) == {"CC-BY-NC", "CC0", "CC-BY", "CC-BY-SA"}
    assert set(server.times().values()) == {1}


def test_only_what_is_missing_is_asked_for_again(open_data: MakeConfig, server: Server, lines: Lines) -> None:
    path = "/photos/103/medium.jpg"
    whole, server.pages[path] = server.pages[path], Answer(b"<html>", 403)
    config = open_data("global.included_classes=[Insecta]")
    assert run_stages(config, until="download") == 2
    assert ledger(config)["ok"].sum() == 4
    server.log.clear()
    server.pages[path] = whole
    assert run_stages(config, until="download") == 1
    assert server.log == [path]


def test_a_finished_download_is_up_to_date_until_a_photo_goes(
    open_data: MakeConfig, server: Server, lines: Lines
) -> None:
    config = open_data("region.licences=[CC-BY-NC]")
    assert run_stages(config, until="download") == 0
    lines()
    run_stages(config, until="download")
    assert [line.split(maxsplit=1)[1] for line in lines()] == ["up to date"] * 2
    server.log.clear()
    (config.paths.src_dataset / ledger(config)["image_path"][0]).unlink()
    run_stages(config, until="download")
    assert len(server.log) == 1


def test_a_table_beside_the_photos_tells_what_the_folders_do_not(open_data: MakeConfig) -> None:
    config = open_data()
    run_stages(config, until="download")
    table = pd.read_parquet(config.paths.src_dataset / "photos.parquet")
    assert list(table) == ["path", "group", "species", "observation", "licence", "holder", "date"]
    assert sorted(table["path"]) == sorted(
        str(path.relative_to(config.paths.src_dataset)) for path in config.paths.src_dataset.glob("*/*/*")
    )
    assert table.set_index("path").loc["Aves/Pica pica/105.png", "holder"].startswith("(c) Carla Éluard")
    (config.paths.src_dataset / "photos.parquet").unlink()
    run_stages(config, until="download")
    assert (config.paths.src_dataset / "photos.parquet").is_file()


@pytest.mark.parametrize("source", ["open_data", "inaturalist_api"])
def test_a_group_that_inaturalist_does_not_have(make_config: MakeConfig, tmp_path: Path, source: str) -> None:
    wishes = {
        "open_data": [f"region.file={tmp_path}", "region.box=[1,2,3,4]"],
        "inaturalist_api": ["region.place_id=1"],
    }
    config = make_config(f"region.source={source}", CONTACT, *wishes[source], "global.included_classes=[Aves, Birds]")
    with pytest.raises(ConfigError, match="included_classes: Birds is no group of iNaturalist; its groups are Actinop"):
        run_stages(config, until="region")


def test_photos_of_others_among_them_are_told(open_data: MakeConfig, lines: Lines) -> None:
    config = open_data()
    stray = config.paths.src_dataset / "Aves" / "Pica pica" / "mine.jpg"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(jpeg(1))
    run_stages(config, until="download")
    assert any(line.startswith("  1 other photos lie below ") for line in lines())


# the configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["source=atlas"], "Input should be 'check_list', 'inaturalist_api'"),
        (["source=check_list"], "needs contact: your e-mail or page"),
        (["source=check_list", "contact=é"], "String should match pattern"),
        (["source=species_list"], "source species_list needs file"),
        (["source=darwin_core"], "source darwin_core needs file"),
        (["source=open_data", "file=x"], "source open_data needs either box or polygon"),
        (["source=open_data", "file=x", "box=[1,2,3,4]", "polygon=y"], "source open_data needs either box or polygon"),
        (["source=open_data", "file=x", "box=[1, 44, 2, 43]"], "box is west, south, east, north in degrees"),
        (["source=open_data", "file=x", "box=[1, 43, 200, 44]"], "box is west, south, east, north in degrees"),
        (["source=open_data", "file=x", "box=[1,2,3,4]", "licences=[CC-BY-XX]"], "Input should be 'CC0'"),
        (["source=open_data", "file=x", "box=[1,2,3,4]", "photos={download: true}"], "needs contact"),
        (["source=inaturalist_api", "contact=me"], "needs either place_id or latitude, longitude and radius_km"),
        (["source=inaturalist_api", "contact=me", "latitude=4", "longitude=5"], "needs either place_id or latitude"),
        (["source=inaturalist_api", "latitude=91"], "less than or equal to 90"),
        (["photos={download: true}"], "photos.download needs source open_data"),
        (["photos={sise: large}"], "unknown key region.photos.sise; did you mean size"),
    ],
)
def test_what_a_source_lacks_is_told(make_config: MakeConfig, asked: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        make_config(*(f"region.{one}" for one in asked))
