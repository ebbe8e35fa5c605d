"""The list of photos: sorted on disk, each once, whatever memory there is."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.bulk import listing
from pipeline.bulk.listing import read_part, write_listing


@pytest.mark.parametrize(("run", "opened"), [(10_000, 200), (7, 3), (1, 2)])
def test_it_is_sorted_without_doubles_however_it_is_merged(
    run: int, opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "RUN", run)
    monkeypatch.setattr(listing, "OPEN", opened)
    names = [f"{i % 83}/photo {i % 83}.jpg" for i in range(200)]
    random.Random(0).shuffle(names)
    found = write_listing(iter(names), tmp_path / "l.parquet", 10)
    file = pq.ParquetFile(tmp_path / "l.parquet")
    assert (found.photos, file.num_row_groups) == (83, 9)
    assert [name for i in range(9) for name in read_part(file, i)] == sorted(set(names))
    assert found == write_listing(sorted(names), tmp_path / "m.parquet", 4)
    assert {path.name for path in tmp_path.iterdir()} == {"l.parquet", "m.parquet"}


def test_names_that_are_no_text_come_back_as_they_were(tmp_path: Path) -> None:
    names = ["b\nc.jpg", "caf\udce9.jpg", "é.jpg"]
    write_listing(names, tmp_path / "l.parquet", 10)
    assert sorted(read_part(pq.ParquetFile(tmp_path / "l.parquet"), 0)) == sorted(names)


def test_the_digest_is_of_names_and_their_limits(tmp_path: Path) -> None:
    digests = {write_listing(names, tmp_path / "l", 10).sha256 for names in (["a", "b"], ["ab"], ["a\nb"], ["a"])}
    assert len(digests) == 4
