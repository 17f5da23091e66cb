"""Random changes to images keep what they should."""

import pytest
import torch

from platform import augment


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(16, 3, 20, 30)


@pytest.mark.parametrize("change", [augment.affine, augment.colour])
def test_strength_zero_changes_nothing(change, images):
    assert torch.equal(change(images, 0.0), images)


def test_each_image_is_changed_in_its_own_way(images):
    same = images[:1].expand(16, -1, -1, -1)
    for changed in (augment.affine(same, 1.0), augment.colour(same, 1.0)):
        assert changed.shape == same.shape
        assert len({round(float(image.sum()), 4) for image in changed}) == 16
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_mirrored_images_are_mirrored_whole(images):
    changed = augment.mirror(images)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(changed, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert any(mirrored)
    assert any(kept)


def test_a_turn_keeps_a_disc_round_in_an_oblong_image():
    y, x = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(80.0) - 39.5, indexing="ij")
    disc = ((x**2 + y**2) < 100).float()[None, None].expand(8, 1, 40, 80)
    torch.manual_seed(1)
    for image in augment.affine(disc, 1.0)[:, 0]:
        ys, xs = torch.nonzero(image > 0.5, as_tuple=True)
        assert float(xs.float().std() / ys.float().std()) == pytest.approx(1, abs=0.08)
