import pytest
import torch

from sparseflow import data
from sparseflow.recipes.augment import augmented


@pytest.fixture(scope="module")
def images():
    return data.cifar10_subset().take(32)


def batch(images, seed=0, **settings):
    ((x, y),) = augmented(images, images.images, images.labels, batch_size=32, seed=seed, **settings)
    return x, y


def ordered(images, seed=0):
    order = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
    return images.normalize(images.images[order]), images.labels[order]


def test_without_settings_it_only_shuffles(images):
    x, y = batch(images)
    want, labels = ordered(images)
    torch.testing.assert_close(x, want)
    assert torch.equal(y, labels)


def test_half_of_the_images_are_mirrored(images):
    x, _ = batch(images, flip=True)
    want, _ = ordered(images)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(x, want, strict=True)]
    assert 0 < sum(mirrored) < 32
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, x, want, strict=True))


def test_a_square_is_blanked(images):
    x, _ = batch(images, cutout=8)
    blank = (x == 0).all(1).sum((1, 2))
    assert blank.max() == 64
    assert blank.min() >= 9


def test_crops_are_windows_of_the_padded_image(images):
    x, _ = batch(images, crop_padding=4)
    want, _ = ordered(images)
    padded = torch.nn.functional.pad(want, (4,) * 4)
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    assert x.shape == (32, 3, 32, 32)
    assert (windows == x[:, None]).flatten(2).all(2).any(1).all()


def test_the_seed_is_all_that_counts(images):
    settings = {"crop_padding": 4, "flip": True, "cutout": 8}
    assert torch.equal(batch(images, 3, **settings)[0], batch(images, 3, **settings)[0])
    assert not torch.equal(batch(images, 3, **settings)[0], batch(images, 4, **settings)[0])


@pytest.mark.parametrize(("size", "sizes"), [(10, [10, 10, 10]), (32, [32]), (100, [32])])
def test_a_rest_is_left_out_unless_it_is_all(images, size, sizes):
    found = augmented(images, images.images, images.labels, batch_size=size, seed=0)
    assert [len(y) for _, y in found] == sizes


def test_turned_and_erased_images_are_the_transforms_of_the_rest(images):
    plain, _ = batch(images, crop_padding=4, flip=True)
    turned, _ = batch(images, crop_padding=4, flip=True, degrees=15.0)
    erased, _ = batch(images, crop_padding=4, flip=True, erasing=0.5)
    differs = (turned - plain).flatten(1).abs().amax(1) > 1e-3
    assert differs.sum() >= 30
    assert turned.shape == plain.shape
    touched = (erased != plain).flatten(1).any(1)
    assert 8 <= int(touched.sum()) <= 24
    assert (erased[erased != plain] == 0).all()
