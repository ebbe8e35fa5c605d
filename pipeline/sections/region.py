"""The sections `web_crawl` and `region`: which species live there, and how their photos are downloaded."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipeline.sections.common import Section


class WebCrawl(Section):
    total_pages: int = Field(104, gt=0, description="upper limit; the crawl ends by itself after the last page")
    base_url: str = Field(
        "https://www.inaturalist.org/check_lists/32961-Haute-Garonne-Check-List?page=",
        pattern="^(https?://|$)",
        description="address of a check list of iNaturalist, up to the page's number; for region.source check_list",
    )
    delay_between_requests: float = Field(1.0, gt=0, description="seconds, to any server of a region's source")


Licence = Literal["CC0", "PD", "CC-BY", "CC-BY-SA", "CC-BY-ND", "CC-BY-NC", "CC-BY-NC-SA", "CC-BY-NC-ND"]


class Photos(Section):
    """Download of the photos that a query of iNaturalist's Open Data finds."""

    download: bool = Field(False, description="download them into paths.src_dataset, before it is analysed")
    size: Literal["original", "large", "medium", "small"] = Field(
        "medium", description="longest side: large 1024, medium 500, small 240 px"
    )
    per_species: int = Field(0, ge=0, description="largest number per species, drawn by the seed; 0: all")
    url: str = Field("https://inaturalist-open-data.s3.amazonaws.com/photos", pattern="^https?://")


class Region(Section):
    """Which species live in the region; the stage `region` asks the source."""

    source: Literal["check_list", "inaturalist_api", "open_data", "species_list", "darwin_core"] | None = Field(
        None, description="none: the list at paths.web_crawl_output_json, if any"
    )
    contact: str = Field(
        "", pattern=r"^[ -~]*$", description="your e-mail or web page, sent as User-Agent, as the servers require"
    )
    file: Path | None = Field(
        None, description="species_list: text, CSV or JSON; darwin_core: the zip; open_data: the folder of the tables"
    )
    place_id: int | None = Field(None, gt=0, description="inaturalist_api: a place of iNaturalist")
    latitude: float | None = Field(
        None, ge=-90, le=90, description="inaturalist_api: a point, with longitude, radius_km"
    )
    longitude: float | None = Field(None, ge=-180, le=180)
    radius_km: float | None = Field(None, gt=0)
    box: tuple[float, float, float, float] | None = Field(None, description="open_data: west, south, east, north")
    polygon: Path | None = Field(None, description="open_data: a GeoJSON file with polygons")
    first_day: date | None = Field(None, description="inaturalist_api, open_data: observed on this day or later")
    last_day: date | None = Field(None, description="inaturalist_api, open_data: observed on this day or earlier")
    quality: Literal["research", "needs_id", "casual", "any"] = Field(
        "research", description="inaturalist_api, open_data: quality grade of the observations"
    )
    licences: list[Licence] = Field([], description="open_data: photos to list, e.g. [CC0, CC-BY]; empty: all of them")
    memory_gb: float = Field(3.0, gt=0, description="open_data: memory limit of the query; it spills to disk beyond")
    photos: Photos = Photos()
    names: Literal["exact", "normalised"] = Field(
        "exact", description="normalised: case, accents, author, hybrid sign and subspecies are ignored in the match"
    )
    synonyms: Path | None = Field(None, description="CSV with the columns synonym, accepted")

    @model_validator(mode="after")
    def _has_what_its_source_needs(self) -> Region:
        point = (self.latitude, self.longitude, self.radius_km)
        if self.source in ("open_data", "species_list", "darwin_core") and self.file is None:
            raise ValueError(f"source {self.source} needs file")
        if self.source == "inaturalist_api" and (self.place_id is None) == (None in point):
            raise ValueError("source inaturalist_api needs either place_id or latitude, longitude and radius_km")
        if self.source == "open_data" and (self.box is None) == (self.polygon is None):
            raise ValueError("source open_data needs either box or polygon")
        if self.box and not (-90 <= self.box[1] < self.box[3] <= 90 and abs(self.box[0]) <= 180 >= abs(self.box[2])):
            raise ValueError("box is west, south, east, north in degrees; west > east crosses the date line")
        if self.photos.download and self.source != "open_data":
            raise ValueError("photos.download needs source open_data")
        if not self.contact and (self.photos.download or self.source in ("check_list", "inaturalist_api")):
            raise ValueError("needs contact: your e-mail or page, by which the server's keepers can reach you")
        return self
