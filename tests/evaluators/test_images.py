"""Loading images: digits, folders, and everything that may be wrong with a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.images import digits, divided_folder, image_folder
from ncode_search.evaluators.picture_files import open_picture


def test_digits_are_divided_by_the_seed_alone() -> None:
    data, again, other = digits(0), digits(0), digits(1)
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (898, 449, 450)
    assert data.train.images.shape == (898, 1, 8, 8)
    assert torch.equal(data.train.images, again.train.images)
    assert not torch.equal(data.train.labels, other.train.labels)


def test_digits_are_each_in_one_part() -> None:
    data = digits(0)
    assert data.test is not None
    images = torch.cat([data.train.images, data.val.images, data.test.images])
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 1797
    assert data.val.labels.bincount().min() >= 40


def test_batches_are_standardised_and_almost_equal() -> None:
    data = digits(0)
    batches = list(data.batches(data.train, torch.arange(897), 64, "cpu"))
    assert sorted({len(labels) for _, labels in batches}) == [59, 60]
    pixels = torch.cat([images for images, _ in batches])
    assert pixels.mean().abs() < 0.01
    assert (pixels.std() - 1).abs() < 0.01


def test_folder(picture_folder: Path) -> None:
    data = image_folder(picture_folder, image_size=8)
    assert data.test is not None
    assert data.train.images.shape == (60, 1, 8, 8)
    assert (len(data.val), len(data.test), data.classes) == (30, 30, 3)
    assert data.train.labels.bincount().tolist() == [20, 20, 20]
    with Image.open(picture_folder / "train" / "digit0" / "0.png") as image:
        assert data.train.images[0].flatten().tolist() == list(image.tobytes())


def test_folder_is_resized_and_its_test_part_may_be_missing(picture_folder: Path) -> None:
    shutil.rmtree(picture_folder / "test")
    data = image_folder(picture_folder, image_size=12)
    assert data.test is None
    assert data.val.images.shape == (30, 1, 12, 12)


def test_one_coloured_image_makes_the_folder_coloured(picture_folder: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(picture_folder / "val" / "digit1" / "red.jpg")
    assert image_folder(picture_folder, image_size=8).channels == 3


def test_hidden_files_are_left_alone(picture_folder: Path) -> None:
    (picture_folder / "train" / ".cache").mkdir()
    (picture_folder / "train" / "digit0" / ".DS_Store").write_bytes(b"no image")
    assert len(image_folder(picture_folder, image_size=8).train) == 60


def test_hidden_folders_are_left_alone(picture_folder: Path) -> None:
    copies = picture_folder / "train" / "digit0" / ".ipynb_checkpoints"
    copies.mkdir()
    shutil.copy(picture_folder / "train" / "digit0" / "0.png", copies / "0-checkpoint.png")
    hidden = picture_folder.rename(picture_folder.with_name(".pictures"))
    assert len(image_folder(hidden, image_size=8).train) == 60
    assert len(divided_folder(hidden / "train", image_size=8, split_seed=0).train) == 40


def _refused(folder: Path) -> str:
    with pytest.raises(EvaluatorError) as error:
        image_folder(folder, image_size=8)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_folder(tmp_path: Path) -> None:
    assert _refused(tmp_path / "nowhere") == (
        f'[evaluator] data: there is no folder {tmp_path}/nowhere; give "digits", a folder of <class>/, of '
        "train/<class>/ and val/<class>/, or of CIFAR's binary version"
    )


def test_missing_part(picture_folder: Path) -> None:
    shutil.rmtree(picture_folder / "val")
    assert f"there is no folder {picture_folder}/val;" in _refused(picture_folder)


def test_too_few_classes(picture_folder: Path) -> None:
    shutil.rmtree(picture_folder / "train" / "digit0")
    shutil.rmtree(picture_folder / "train" / "digit1")
    assert f"{picture_folder}/train has 1 class folders; at least 2 are needed" in _refused(picture_folder)


def test_empty_class(picture_folder: Path) -> None:
    shutil.rmtree(picture_folder / "val" / "digit1")
    (picture_folder / "val" / "digit1").mkdir()
    assert f"class folder {picture_folder}/val/digit1 has no images; add some" in _refused(picture_folder)


@pytest.mark.parametrize("part", ["val", "test"])
def test_classes_that_differ(picture_folder: Path, part: str) -> None:
    (picture_folder / part / "digit1").rename(picture_folder / part / "one")
    message = _refused(picture_folder)
    assert f"the classes of {picture_folder}/{part} differ from those of train/" in message
    assert "missing ['digit1'], extra ['one']" in message


def test_unreadable_image(picture_folder: Path) -> None:
    file = picture_folder / "train" / "digit2" / "broken.png"
    file.write_bytes(b"no image")
    assert f"cannot read {file} as an image (cannot identify image file" in _refused(picture_folder)


def test_truncated_image(picture_folder: Path) -> None:
    file = picture_folder / "train" / "digit2" / "0.png"
    file.write_bytes(file.read_bytes()[:60])
    assert f"cannot read {file} as an image (" in _refused(picture_folder)


def test_a_folder_of_classes_is_divided(picture_folder: Path) -> None:
    data = divided_folder(picture_folder / "train", image_size=8, split_seed=0)
    again = divided_folder(picture_folder / "train", image_size=8, split_seed=0)
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test), data.classes) == (40, 10, 10, 3)
    assert data.train.labels.bincount().min() >= 13
    assert torch.equal(data.train.images, again.train.images)
    images = torch.cat([data.train.images, data.val.images, data.test.images])
    assert len({image.numpy().tobytes() for image in images}) == 60


def test_a_class_too_small_to_be_divided(picture_folder: Path) -> None:
    for file in sorted((picture_folder / "train" / "digit1").iterdir())[5:]:
        file.unlink()
    with pytest.raises(EvaluatorError, match="train/digit1 has 5 images, to be divided .*; give it at least 6"):
        divided_folder(picture_folder / "train", image_size=8, split_seed=0)


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "<u2"), ("I;16B", ">u2"), ("I", "<i4")])
def test_grey_of_16_bits_is_scaled_by_its_whole_range(tmp_path: Path, mode: str, dtype: str) -> None:
    numbers = np.array([[0, 257, 128 * 257, 65535]], dtype)
    Image.frombytes(mode, (4, 1), numbers.tobytes()).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == mode
    assert np.asarray(open_picture(tmp_path / "a.tif", "RGB"))[0].tolist() == [[n] * 3 for n in (0, 1, 128, 255)]
    assert np.asarray(open_picture(tmp_path / "a.tif")).max() == 65535, "numbers of classes stay what they are"


@pytest.mark.parametrize("mode", ["RGB", None])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures_stand_upright_as_cameras_say(tmp_path: Path, mode: str | None, suffix: str) -> None:
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, :16] = 255
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # to be turned a quarter to the right
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=turned)
    picture = open_picture(tmp_path / f"a.{suffix}", mode)
    assert picture.size == (16, 32)
    assert np.asarray(picture.convert("L"))[[4, 28], 8].tolist() == [255, 0], "what was left is on top"


@pytest.mark.parametrize(("suffix", "compression"), [("png", None), ("tif", None), ("tif", "tiff_lzw")])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_once(
    tmp_path: Path, orientation: int, suffix: str, compression: str | None
) -> None:
    said = Image.Exif()
    said[ExifTags.Base.Orientation] = orientation
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=said, compression=compression)
    Image.fromarray(pixels).save(tmp_path / "sound.png", exif=said)
    with Image.open(tmp_path / "sound.png") as sound:
        upright = np.asarray(ImageOps.exif_transpose(sound))
    assert np.array_equal(np.asarray(open_picture(tmp_path / f"a.{suffix}")), upright)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(
    ("start", "replaced", "is_readable"),
    [
        (6, b"\0", False),  # SyntaxError: the header
        (10, None, False),  # struct.error: nothing behind it
        (17, b"\0", True),  # struct.error, AttributeError and TypeError, where it is written again
        (19, b"\x05", True),
        (43, b"\x01", True),
    ],
)
def test_damaged_exif_is_no_matter_beside_whole_pixels(
    tmp_path: Path, start: int, replaced: bytes | None, is_readable: bool, suffix: str
) -> None:
    said = Image.Exif()
    said[ExifTags.Base.Make] = "maker"
    said[ExifTags.Base.Orientation] = 6
    said[ExifTags.Base.XResolution] = 72.0
    said[ExifTags.Base.Software] = "software" * 8
    sound = said.tobytes()
    damaged = sound[:start] + (b"" if replaced is None else replaced + sound[start + 1 :])
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=damaged)
    picture = np.asarray(open_picture(tmp_path / f"a.{suffix}"))
    assert np.array_equal(picture, np.rot90(pixels, -1) if is_readable else pixels), "its orientation can be read"


@pytest.mark.parametrize(("pixels", "mode"), [([0, 65536], "I"), ([-1, 3], "I"), ([0.0, 1.0], "F")])
def test_refuses_pixels_that_have_no_range(tmp_path: Path, pixels: list[float], mode: str) -> None:
    Image.fromarray(np.array([pixels], "int32" if mode == "I" else "float32")).save(tmp_path / "a.tif")
    with pytest.raises(EvaluatorError) as error:
        open_picture(tmp_path / "a.tif", "RGB")
    assert str(error.value) == (
        f"[evaluator] data: the pixels of {tmp_path}/a.tif go from {pixels[0]} to {pixels[1]} (mode {mode}), "
        "which is grey of neither 8 nor 16 bits; save it as such"
    )


def test_refuses_training_images_that_are_all_of_one_colour(picture_folder: Path) -> None:
    for file in (picture_folder / "train").rglob("*.png"):
        Image.new("L", (8, 8), 255).save(file)
    message = "[evaluator] data: all pixels of all training images are 255, of 0 to 255; give images that differ"
    assert _refused(picture_folder) == message
    Image.new("L", (8, 8), 254).save(picture_folder / "train" / "digit0" / "0.png")
    assert len(image_folder(picture_folder, image_size=8).train) == 60
