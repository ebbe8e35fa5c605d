"""A tiny Open Data snapshot with known answers."""

from __future__ import annotations

import gzip
from pathlib import Path

TAXA = """taxon_id	ancestry	rank_level	rank	name	active
48460		100	stateofmatter	Life	true
1	48460	70	kingdom	Animalia	true
3	48460/1/2	50	class	Aves	true
47158	48460/1/47120/372739	50	class	Insecta	true
500	48460/1/47120/372739/47158/9	20	genus	Apis	true
501	48460/1/47120/372739/47158/9/500	10	species	Apis mellifera	true
502	48460/1/47120/372739/47158/9/500/501	5	subspecies	Apis mellifera iberiensis	true
503	48460/1/47120/372739/47158/8	10	species	Vanessa "atalanta"	true
510	48460/1/2/3/7	10	species	Pica pica	true
520	48460/1/47120	10	species	Lumbricus terrestris	true
530	48460/131236	10	species	Escherichia coli	true
540	48460/1/2/3/7	10	hybrid	Pica × cyanopica	true
"""
# name of the observation: longitude, latitude, taxon, quality, day, observer
OBSERVATIONS = {
    1: (1.4, 43.6, 501, "research", "2020-05-01", 10),
    2: (1.5, 43.5, 502, "research", "2021-05-01", 11),
    3: (1.6, 43.4, 503, "research", "2022-05-01", 10),
    4: (1.4, 43.6, 510, "research", "2022-06-01", 12),
    5: (1.4, 43.6, 520, "research", "2022-06-01", 12),
    6: (1.4, 43.6, 501, "needs_id", "2022-06-01", 12),
    7: (9.9, 43.6, 501, "research", "2022-06-01", 12),
    8: (1.4, 50.0, 501, "research", "2022-06-01", 12),
    9: ("", "", 501, "research", "2022-06-01", 12),
    10: (1.4, 43.6, 500, "research", "2022-06-01", 12),
    11: (1.9, 43.9, 501, "research", "", 99),
    12: (1.4, 43.6, 530, "research", "2022-06-01", 12),
    13: (1.4, 43.6, 540, "research", "2022-06-01", 12),
    14: (179.9, 0.0, 510, "research", "2022-06-01", 12),
    15: (-179.9, 0.0, 510, "research", "2022-06-01", 12),
}
# photo_id, observation, extension, licence
PHOTOS = [
    (101, 1, "jpg", "CC-BY-NC"),
    (102, 1, "jpeg", "CC0"),
    (103, 2, "jpg", "CC-BY"),
    (104, 3, "JPG", "CC-BY-NC"),
    (105, 4, "png", "CC-BY-NC"),
    (106, 6, "jpg", "CC-BY"),
    (107, 7, "jpg", "CC-BY"),
    (108, 11, "jpg", "CC-BY-SA"),
    (109, 1, "jpg", "CC-BY"),  # of the bee
    (109, 3, "jpg", "CC-BY"),  # and of the butterfly on the same flower
    (110, 1, "gif", "CC-BY"),
    (110, 2, "gif", "CC-BY"),  # twice, of the same species
]
OBSERVERS = """observer_id	login	name
10	ana	Ana O'Neill "Nan"
11	ben
12	carla	Carla Éluard
"""


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def write_snapshot(folder: Path, packed: bool = True) -> Path:
    """The four tables."""
    observations = [
        "observation_uuid observer_id latitude longitude positional_accuracy taxon_id quality_grade observed_on"
    ]
    for number, (longitude, latitude, taxon, quality, day, observer) in OBSERVATIONS.items():
        observations.append(f"{uuid(number)} {observer} {latitude} {longitude} 5 {taxon} {quality} {day}")
    photos = ["photo_uuid photo_id observation_uuid observer_id extension license width height position"]
    for photo, number, extension, licence in PHOTOS:
        observer = OBSERVATIONS[number][5]
        photos.append(f"{uuid(photo)} {photo} {uuid(number)} {observer} {extension} {licence} 2048 1536 0")
    spaced = {"observations": observations, "photos": photos}
    texts = {name: "\n".join(rows).replace(" ", "\t") + "\n" for name, rows in spaced.items()}
    texts |= {"taxa": TAXA, "observers": OBSERVERS.replace("ben\n", "ben\t\n")}
    folder.mkdir(parents=True)
    for name, text in texts.items():
        if packed:
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder
