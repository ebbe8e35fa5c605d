"""Labels: the published counts of dominant species under every rule, the modes, the region's weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from pipeline.dataset.composition import Composition
from pipeline.dataset.dominance import dominant_of_groups, rank_species
from pipeline.dataset.labelling import label, ranked, weigh
from pipeline.errors import DataError
from pipeline.labels import OTHER
from pipeline.sections.dataset import Labels

TOY: Composition = {
    "Aves": {"Ardea alba": 60, "Pica pica": 30, "Sturnus vulgaris": 10},
    "Insecta": {"Apis mellifera": 500, "Mantis religiosa": 250, "Pieris rapae": 250},
}


def made(threshold: float = 0.6, **settings: Any) -> Any:
    return label(Labels(**settings), TOY, threshold)


# the published table ------------------------------------------------------------------------------------------------
# Per group the number of species that hold 50, 80 and 90 % of the photos: the minimal set, and with ties.

INAT2017 = {
    "Aves": [(97, 97), (301, 301), (474, 476)],
    "Plantae": [(360, 361), (1037, 1049), (1446, 1472)],
    "Insecta": [(104, 104), (405, 407), (628, 641)],
    "Reptilia": [(35, 35), (111, 111), (170, 171)],
    "Mammalia": [(18, 18), (56, 56), (92, 92)],
    "Amphibia": [(16, 16), (44, 44), (67, 67)],
    "Mollusca": [(17, 17), (46, 49), (63, 63)],
    "Fungi": [(28, 28), (71, 73), (91, 92)],
    "Animalia": [(14, 14), (39, 40), (54, 55)],
    "Arachnida": [(9, 9), (26, 26), (37, 37)],
    "Actinopterygii": [(14, 14), (33, 34), (42, 45)],
    "Chromista": [(3, 3), (6, 6), (7, 7)],
    "Protozoa": [(2, 2), (2, 2), (3, 3)],
}
SIZES = {
    "Aves": (964, 235521), "Plantae": (2101, 196613), "Insecta": (1021, 118555), "Reptilia": (289, 40881),
    "Mammalia": (186, 32823), "Amphibia": (115, 17703), "Mollusca": (93, 9377), "Fungi": (121, 7606),
    "Animalia": (77, 6590), "Arachnida": (56, 5959), "Actinopterygii": (53, 2619), "Chromista": (9, 542),
    "Protozoa": (4, 381),
}  # fmt: skip
MERGED = {
    "all": [(529, 529), (1952, 1961), (3041, 3047)],
    "Aves + Insecta": [(174, 174), (627, 628), (1038, 1044)],
    "region": [(15, 15), (74, 75), (137, 140)],
}
REGION = {
    "Aves": {0.2: (3, 3), 0.3: (4, 4), 0.5: (9, 9), 0.6: (14, 14), 0.8: (39, 39), 0.9: (67, 67)},
    "Insecta": {
        0.20: (2, 2), 0.30: (3, 3), 0.35: (4, 4), 0.40: (5, 5), 0.45: (6, 6), 0.50: (7, 7), 0.55: (9, 9),
        0.60: (13, 13), 0.65: (19, 19), 0.70: (27, 27), 0.75: (37, 37), 0.80: (50, 50), 0.85: (65, 68),
        0.90: (83, 84), 0.95: (108, 108),
    },
}  # fmt: skip
INSECTA = {
    0.20: (16, 16), 0.30: (33, 33), 0.40: (63, 63), 0.50: (104, 104), 0.60: (166, 166), 0.70: (260, 261),
    0.80: (405, 407), 0.90: (628, 641), 0.95: (789, 801),
}  # fmt: skip


@pytest.fixture(params=["shipped", "reference"])
def real(request: pytest.FixtureRequest, reference: Callable[[str], Any]) -> dict[str, Composition]:
    """iNaturalist 2017 and the region: the numbers of photos that are shipped (without names), or the full lists."""
    if request.param == "reference":
        return {
            "inat2017": reference("inat2017_composition.json"),
            "region": reference("haute_garonne_composition.json"),
        }
    data = json.loads(Path(__file__).with_name("species_counts.json").read_text())
    return {
        name: {
            group: {f"{group} {n}.{i}": n for n, times in counts for i in range(times)}
            for group, counts in groups.items()
        }
        for name, groups in data.items()
    }


def numbers(composition: Composition, threshold: float, merged: bool = False) -> tuple[int, int]:
    """How many species are dominant: the minimal set, and with ties."""
    minimal, inclusive = (
        sum(map(len, dominant_of_groups(composition, threshold, minimal, merged).values())) for minimal in (True, False)
    )
    return minimal, inclusive


def test_sizes_of_the_real_sets(real: dict[str, Composition]) -> None:
    assert {group: (len(counts), sum(counts.values())) for group, counts in real["inat2017"].items()} == SIZES
    assert {g: (len(counts), sum(counts.values())) for g, counts in real["region"].items()} == {
        "Aves": (140, 42540),
        "Insecta": (144, 18849),
    }


def test_real_groups_by_themselves(real: dict[str, Composition]) -> None:
    found = {g: [numbers({g: c}, share) for share in (0.5, 0.8, 0.9)] for g, c in real["inat2017"].items()}
    assert found == INAT2017
    assert {share: numbers({"Insecta": real["inat2017"]["Insecta"]}, share) for share in INSECTA} == INSECTA
    for group, expected in REGION.items():
        assert {share: numbers({group: real["region"][group]}, share) for share in expected} == expected


def test_real_groups_merged(real: dict[str, Composition]) -> None:
    sets = {
        "all": real["inat2017"],
        "Aves + Insecta": {group: real["inat2017"][group] for group in ("Aves", "Insecta")},
        "region": real["region"],
    }
    assert {name: [numbers(c, share, True) for share in (0.5, 0.8, 0.9)] for name, c in sets.items()} == MERGED


def test_real_region_of_two_groups(real: dict[str, Composition]) -> None:
    found = {share: rank_species(real["region"], share)[1] for share in (0.2, 0.3, 0.5, 0.6, 0.8, 0.9)}
    assert found == {0.2: 5, 0.3: 7, 0.5: 16, 0.6: 27, 0.8: 89, 0.9: 151}


# modes --------------------------------------------------------------------------------------------------------------


def test_dominant_and_other() -> None:
    result = made()
    assert result.labels.names == ("Ardea alba", "Apis mellifera", "Mantis religiosa", "Pieris rapae", OTHER)
    assert result.counts == {
        "Ardea alba": 60, "Apis mellifera": 500, "Mantis religiosa": 250, "Pieris rapae": 250, OTHER: 40,
    }  # fmt: skip


def test_minimal_set_leaves_out_what_ties() -> None:
    assert made(ties="minimal").dominant == {"Aves": ["Ardea alba"], "Insecta": ["Apis mellifera", "Mantis religiosa"]}


def test_merged_groups_compete() -> None:
    assert made(0.5, scope="merged").dominant == {
        "Aves": [],
        "Insecta": ["Apis mellifera", "Mantis religiosa", "Pieris rapae"],
    }
    assert made(0.5, scope="merged", ties="minimal").labels.names == ("Apis mellifera", "Mantis religiosa", OTHER)


@pytest.mark.parametrize(("settings", "threshold"), [({"mode": "full"}, 0.6), ({"mode": "full"}, 1.0), ({}, 1.0)])
def test_full(settings: dict[str, str], threshold: float) -> None:
    result = made(threshold, **settings)
    assert result.labels.names == tuple(name for counts in TOY.values() for name in counts)
    assert sum(result.counts.values()) == 1100


def test_just_other() -> None:
    assert made(mode="just_other", ties="minimal").counts == {
        "Pica pica": 30,
        "Sturnus vulgaris": 10,
        "Pieris rapae": 250,
    }


@pytest.mark.parametrize(("composition", "threshold"), [({"A": {"x": 5, "y": 5}}, 0.5), (TOY, 1.0)])
@pytest.mark.parametrize("mode", ["just_other", "binary"])
def test_nothing_left_that_is_not_dominant_is_told(
    mode: Literal["just_other", "binary"], composition: Composition, threshold: float
) -> None:
    with pytest.raises(DataError, match=f"every species is dominant, so labels.mode {mode} leaves none; lower"):
        label(Labels(mode=mode), composition, threshold)


def test_binary() -> None:
    result = made(mode="binary", ties="minimal")
    assert result.labels.names == ("Dominant", OTHER)
    assert result.counts == {"Dominant": 810, OTHER: 290}


# weights ------------------------------------------------------------------------------------------------------------

SEEN = {
    "Aves": {"Ardea alba": 1, "Pica pica": 70, "Sturnus vulgaris": 29, "Corvus corone": 900},
    "Insecta": {"Mantis religiosa": 8, "Apis mellifera": 2},
}


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_region_s_observations_choose_the_dominant_species(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"seen.{ending}"
    if ending == "json":
        path.write_text(json.dumps(SEEN))
    else:
        rows = [(group, name, n) for group, counts in SEEN.items() for name, n in counts.items()]
        pd.DataFrame(rows, columns=["group", "species", "n"]).to_parquet(path)
    settings = Labels(weights=path)
    result = label(settings, TOY, 0.8)
    assert result.dominant == {"Aves": ["Pica pica", "Sturnus vulgaris"], "Insecta": ["Mantis religiosa"]}
    assert result.counts[OTHER] == 60 + 500 + 250
    order = ["Pica pica", "Sturnus vulgaris", "Mantis religiosa", "Apis mellifera", "Ardea alba", "Pieris rapae"]
    assert result.ranking == order
    assert ranked(settings, TOY, 0.8) == (order, 3)


@pytest.mark.parametrize(
    "text", ["[]", '{"Aves": ["x"]}', '{"Aves": {"x": 1.5}}', '{"Aves": {"x": -1}}', '{"Aves": {"x": true}}']
)
def test_weights_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(DataError, match=r'must be \{"group": \{"species": n\}\} with whole numbers'):
        weigh(Labels(weights=tmp_path / "w.json"), TOY)


def test_weights_of_another_region_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('{"Aves": {"Pica pica": 3}}')
    with pytest.raises(DataError, match=r"has no observations of the species of \['Insecta'\]; is it of this region"):
        weigh(Labels(weights=tmp_path / "w.json"), TOY)


def test_unreadable_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no weights \(labels\.weights\) at .*gone\.json"):
        weigh(Labels(weights=tmp_path / "gone.json"), TOY)
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "w.parquet")
    with pytest.raises(DataError, match="cannot be read as a table of group, species, n"):
        weigh(Labels(weights=tmp_path / "w.parquet"), TOY)
