"""The embedded demo set: the same bytes every time, long-tailed, resumable, never mixed with another one."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from itertools import accumulate
from pathlib import Path

import pytest
from PIL import Image

from pipeline.dataset.demo.make import VERSION, DemoSet, make_demo, photo_bytes, photo_path, write_photos
from pipeline.dataset.demo.species import SPECIES
from pipeline.dataset.parallel import mapped
from pipeline.errors import DataError

SCALE = 0.02


def digests(root: Path) -> dict[str, str]:
    """Digest of every file below a folder, by relative path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(root: Path) -> DemoSet:
    return make_demo(root, scale=SCALE, workers=1)


def test_same_seed_gives_the_same_bytes(demo: DemoSet, root: Path, tmp_path: Path) -> None:
    again = make_demo(tmp_path, scale=SCALE, workers=1)
    assert again.composition == demo.composition
    assert digests(tmp_path) == digests(root)


def test_processes_and_order_do_not_matter(demo: DemoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.demo.make.mapped", partial(mapped, few=1))
    numbers = [(20, 2), (3, 0), (0, 1), (7, 2)]
    write_photos(tmp_path, 0, numbers, workers=2)
    for species, photo in numbers:
        assert photo_path(tmp_path, species, photo).read_bytes() == photo_path(demo.photos, species, photo).read_bytes()


def test_another_seed_or_number_gives_another_photo() -> None:
    assert len({photo_bytes(0, 0, 0), photo_bytes(1, 0, 0), photo_bytes(0, 1, 0), photo_bytes(0, 0, 1)}) == 4


def test_files_are_as_many_as_stated(demo: DemoSet) -> None:
    found = {
        group.name: {species.name: len(list(species.glob("*.jpg"))) for species in group.iterdir()}
        for group in demo.photos.iterdir()
    }
    assert found == demo.composition
    assert all(path.suffix == ".jpg" for path in demo.photos.rglob("*") if path.is_file())


def test_photos_decode_as_rgb_of_the_stated_size(demo: DemoSet) -> None:
    sizes = set()
    for path in demo.photos.rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert image.format == "JPEG" and image.mode == "RGB"
            assert all(128 <= side <= 176 for side in image.size)
            sizes.add(image.size)
    assert len(sizes) > 5


def test_full_set_is_long_tailed() -> None:
    counts = sorted((species.photos for species in SPECIES), reverse=True)
    assert 1500 <= sum(counts) <= 1800
    assert counts[0] / counts[-1] >= 15
    for group in ("Insecta", "Arachnida"):
        running = list(accumulate(sorted((s.photos for s in SPECIES if s.group == group), reverse=True)))
        assert 3 <= 1 + next(i for i, n in enumerate(running) if n >= running[-1] / 2) <= 4


def test_names_are_unique_binomials() -> None:
    names = [species.name for species in SPECIES]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and len(name.split()) == 2 for name in names)
    assert any("-" in name for name in names)


def test_look_alikes_differ_in_one_part_only() -> None:
    genera: dict[str, list[int]] = {}
    for i, species in enumerate(SPECIES):
        genera.setdefault(species.name.split()[0], []).append(i)
    for members in genera.values():
        assert 2 <= len(members) <= 4
        first = SPECIES[members[0]]
        for other in (SPECIES[i] for i in members[1:]):
            assert first.photos > other.photos
            pairs = [
                *zip(first.look.limbs, other.look.limbs, strict=True),
                *zip(first.look.parts, other.look.parts, strict=True),
            ]
            assert sum(a != b for a, b in pairs) == 1


def test_region_list_matches_only_part(demo: DemoSet) -> None:
    region = json.loads(demo.species_list.read_text(encoding="utf-8"))
    listed = {name for names in region.values() for name in names}
    drawn = {species.name for species in SPECIES}
    assert set(region) == set(demo.composition)
    assert len(drawn - listed) == 2
    assert 4 <= len(listed - drawn) <= 6


def test_killed_half_way_and_called_again(demo: DemoSet, root: Path, tmp_path: Path) -> None:
    make_demo(tmp_path, scale=SCALE, workers=1)
    (tmp_path / "demo.json").rename(tmp_path / "demo.plan.json")
    (tmp_path / "region_species.json").unlink()
    photos = sorted((tmp_path / "photos").rglob("*.jpg"))
    for path in photos[::7]:
        path.with_name(f".{path.name}.part").write_bytes(b"half a photo")
        path.unlink()
    kept = photos[1].stat().st_mtime_ns
    make_demo(tmp_path, scale=SCALE, workers=1)
    assert digests(tmp_path) == digests(root)
    assert photos[1].stat().st_mtime_ns == kept


def test_finished_set_is_left_alone(demo: DemoSet, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.demo.make.write_photos", lambda *_: pytest.fail("drew again"))
    assert make_demo(root, scale=SCALE) == demo


@pytest.mark.parametrize("name", ["demo.json", "demo.plan.json"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"version": VERSION + 1}])
def test_other_demo_in_the_folder_is_refused(
    demo: DemoSet, root: Path, tmp_path: Path, name: str, change: dict[str, int]
) -> None:
    marker = json.loads((root / "demo.json").read_text(encoding="utf-8"))
    (tmp_path / name).write_text(json.dumps(marker | change), encoding="utf-8")
    with pytest.raises(ValueError, match=f"delete the folder {tmp_path}"):
        make_demo(tmp_path, scale=SCALE, workers=1)
    assert not (tmp_path / "photos").exists()


def test_refusal_is_an_error_that_the_command_line_shows(demo: DemoSet, root: Path) -> None:
    with pytest.raises(DataError):
        make_demo(root, seed=1, scale=SCALE)
