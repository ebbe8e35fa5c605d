"""Photos and labels are mixed alike, as often as asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.sections.training import Mix
from pipeline.training.mixing import mixed

PHOTOS = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 16, 16, 3) * 60
LABELS = torch.tensor([0, 1, 2, 3])


def draws(epoch: int = 0, n: int = 200, **given: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    return [mixed(PHOTOS, LABELS, 5, Mix(**given), epoch) for _ in range(n)]


@pytest.mark.parametrize("given", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_labels_share_what_the_photos_share(given: dict[str, float]) -> None:
    for photos, shares in draws(**given, n=20):
        assert photos.shape == PHOTOS.shape
        assert shares.shape == (4, 5)
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
        torch.testing.assert_close(photos.mean((1, 2, 3)), shares @ torch.tensor([0.0, 60, 120, 180, 0]))


def test_cutmix_cuts_and_mixup_blends() -> None:
    assert all(set(photos.unique().tolist()) <= {0, 60, 120, 180} for photos, _ in draws(cutmix=1.0, n=20))
    assert any(set(photos.unique().tolist()) - {0, 60, 120, 180} for photos, _ in draws(mixup=1.0, n=20))


def test_unmixed_batches_stay_as_they_are_and_draw_nothing() -> None:
    before = torch.get_rng_state()
    photos, labels = mixed(PHOTOS, LABELS, 5, Mix(), 0)
    assert photos is PHOTOS and labels is LABELS
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.56), (12, 0.42), (24, 0.28), (100, 0.28)])
def test_share_of_mixed_batches_declines_to_its_least(epoch: int, share: float) -> None:
    given = {"mixup": 0.35, "cutmix": 0.35, "probability": 0.8, "decline": 1 / 60, "least": 0.4}
    found = [labels.ndim == 2 for _, labels in draws(epoch, 1000, **given)]
    assert sum(found) / 1000 == pytest.approx(share, abs=0.05)
