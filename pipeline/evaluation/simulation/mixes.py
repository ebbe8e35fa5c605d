"""Species mixes of simulated days: by photos, uniform, as observed in the region or in a month; missing, dominant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.dataset.labelling import tell_unseen
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.scores import Floats, Ids
from pipeline.files import read_json
from pipeline.sections.evaluation import MonteCarlo


def species_mix(
    settings: MonteCarlo, names: Sequence[str], rows: pd.DataFrame, photos: Ids | None = None
) -> Floats | None:
    """Share of each of the names; None where every photo counts alike. rows: the manifest's.

    photos: how many of each name can be drawn; a name without any has no share, so that the dominant ones hold theirs.
    """
    if settings.mix == "photos" and not settings.missing and not settings.dominant:
        return None
    counts: Mapping[str, float] = dict.fromkeys(names, 1.0)  # uniform
    if settings.mix == "photos":
        counts = _photos(rows)
    elif settings.mix == "observed" and settings.observed:
        counts = observed(settings.observed)
        tell_unseen({name: counts.get(name, 0) for name in names}, settings.observed)
    elif settings.mix == "month" and settings.month:
        counts = of_month(settings.dates, settings.month, rows)
    mix = np.array([float(counts.get(name, 0)) for name in names])
    for name in [*settings.missing, *settings.dominant]:
        if name not in names:
            raise ConfigError(f"monte_carlo names {name!r}, which is no species of the data set")
    if photos is not None:
        if empty := [name for name in settings.dominant if not photos[names.index(name)]]:
            raise DataError(
                f"monte_carlo.dominant gives {empty[0]!r} a share, but no {settings.split} photo is of it; leave it out, or "
                "draw from another monte_carlo.split"
            )
        mix[photos == 0] = 0
    return edit(mix, names, settings.missing, settings.dominant)


def edit(mix: Floats, names: Sequence[str], missing: Sequence[str], dominant: Mapping[str, float]) -> Floats:
    """Remove the missing species, then give the dominant ones their shares; the others keep their proportions."""
    place = {name: i for i, name in enumerate(names)}
    mix = mix.copy()
    mix[[place[name] for name in missing]] = 0
    grown = [place[name] for name in dominant]
    rest = mix.copy()
    rest[grown] = 0
    left = 1 - sum(dominant.values())
    if not dominant:
        return mix
    mix = left * rest / max(rest.sum(), 1e-12)  # where no other species is left, the given shares alone count
    mix[grown] = list(dominant.values())
    return mix


def observed(path: Path) -> dict[str, float]:
    """Observations per species from JSON: {species: n} or {group: {species: n}}."""
    data = read_json(path, "observed frequencies of the region (monte_carlo.observed)")
    flat: dict[str, Any] = {}
    for key, value in data.items() if isinstance(data, dict) else ():
        flat |= value if isinstance(value, dict) else {key: value}
    if not flat or not all(isinstance(n, int | float) and n >= 0 for n in flat.values()):
        raise DataError(f"{path} must hold {{species: observations}} with numbers of at least 0")
    return flat


def of_month(path: Path | None, month: int, rows: pd.DataFrame) -> dict[str, float]:
    """Photos per species taken in a month (1 to 12), by the manifest's dates or by a table of image_path and date."""
    if path:
        dates = rows["image_path"].map(_dates(path))
    elif "date" in rows:
        dates = rows["date"]
    else:
        raise DataError("the manifest has no dates; set monte_carlo.dates to a table of image_path and date")
    found = rows[pd.to_datetime(dates, errors="coerce", utc=True, format="ISO8601").dt.month == month]
    if found.empty:
        raise DataError(
            f"no photo of the data set has a date in month {month} in {path or 'the manifest'}; choose another month"
        )
    return _photos(found)


def _dates(path: Path) -> dict[str, str]:
    """Date by image_path, from CSV or Parquet."""
    try:
        dates = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
        return dict(zip(dates["image_path"], dates["date"], strict=True))
    except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is no table of image_path and date (monte_carlo.dates): {error}") from error


def _photos(rows: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(n) for name, n in rows["species"].value_counts().items()}
