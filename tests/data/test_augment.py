"""Random changes to images keep what they should."""

import numpy as np
import pytest
import torch

from platform.data import augment


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(16, 3, 20, 30)


@pytest.fixture
def draws():
    return augment.ViewNumbers(16, 8, seed=0)(np.arange(16), view=0)


@pytest.mark.parametrize(("change", "columns"), [(augment.affine, slice(0, 4)), (augment.colour, slice(4, 7))])
def test_strength_zero_changes_nothing(change, columns, images, draws):
    assert torch.equal(change(images, 0.0, draws[:, columns]), images)


def test_a_view_of_an_example_is_always_the_same_and_unlike_others():
    draws = augment.ViewNumbers(100, 3, seed=1)
    first = draws(np.array([7, 3]), view=2)
    assert torch.equal(draws(np.array([3, 50, 7]), view=2)[[2, 0]], first)
    assert not torch.equal(draws(np.array([7, 3]), view=1), first)
    assert not torch.equal(augment.ViewNumbers(100, 3, seed=2)(np.array([7, 3]), view=2), first)
    every = augment.ViewNumbers(5000, 2, seed=0)(np.arange(5000), view=0)
    assert -1 <= float(every.min()) < -0.99
    assert 0.99 < float(every.max()) < 1
    assert abs(float(every.mean())) < 0.03


def test_each_image_is_changed_in_its_own_way(images, draws):
    same = images[:1].expand(16, -1, -1, -1)
    for changed in (augment.affine(same, 1.0, draws[:, :4]), augment.colour(same, 1.0, draws[:, 4:7])):
        assert changed.shape == same.shape
        assert len({round(float(image.sum()), 4) for image in changed}) == 16
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_mirrored_images_are_mirrored_whole(images, draws):
    changed = augment.mirror(images, draws[:, 7])
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(changed, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert any(mirrored)
    assert any(kept)


def test_a_turn_keeps_a_disc_round_in_an_oblong_image():
    y, x = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(80.0) - 39.5, indexing="ij")
    disc = ((x**2 + y**2) < 100).float()[None, None].expand(8, 1, 40, 80)
    draws = augment.ViewNumbers(8, 4, seed=1)(np.arange(8), view=0)
    for image in augment.affine(disc, 1.0, draws)[:, 0]:
        ys, xs = torch.nonzero(image > 0.5, as_tuple=True)
        assert float(xs.float().std() / ys.float().std()) == pytest.approx(1, abs=0.08)
