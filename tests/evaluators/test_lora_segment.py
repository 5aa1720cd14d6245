"""The segmentation really learns, measures what it says, and refuses images and masks that do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from ncode_search.evaluators.base import Context, DivergedError, EvaluatorError
from ncode_search.evaluators.lora_segment import LoraSegmentEvaluator

from .tiny_models import write_encoder, write_mobilevit, write_scenes, write_segmenter, write_upernet

pytestmark = pytest.mark.usefixtures("frozen_libraries")

MakeContext = Callable[..., Context]
Reports = list[tuple[int, dict[str, float]]]

CONFIG = {"rank": 4, "learning_rate": 0.02}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A SegFormer, ``segmenter``, and ``scenes`` of bright squares."""
    write_segmenter(tmp_path / "segmenter")
    write_scenes(tmp_path)
    return tmp_path


def _evaluator(folder: Path, **options: Any) -> LoraSegmentEvaluator:
    small = {"model": "segmenter", "data": "scenes", "image_size": 16, "epochs": 2, "batch_size": 4}
    return LoraSegmentEvaluator(**{**small, "precision": "float32", **options}, folder=folder)


def _refused(folder: Path, **options: Any) -> str:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def _mask(folder: Path, part: str, values: Any, dtype: str = "uint8") -> None:
    """Another first mask."""
    array = np.broadcast_to(np.asarray(values, dtype), (16, 16, *np.shape(values)))
    Image.fromarray(np.ascontiguousarray(array)).save(folder / "scenes" / part / "masks" / "0.png")


def test_learns_and_reports(folder: Path, make_context: MakeContext, reports: Reports) -> None:
    result = _evaluator(folder, epochs=8)(CONFIG, make_context())
    assert [step for step, _ in reports] == [*range(1, 9)]
    assert result.value > 0.8
    assert result.value < result.metrics["val_pixel_accuracy"] < 1
    assert set(result.metrics) == {"val_pixel_accuracy", "val_loss", "parameters"}


def test_the_mean_iou_is_that_of_its_definition(folder: Path, make_context: MakeContext) -> None:
    _mask(folder, "val", 255)
    evaluator = _evaluator(folder)
    model, images = evaluator._base.model.eval(), evaluator._sets["val"]
    inputs = images.batch(range(8)).inputs
    with torch.no_grad():
        logits = model(pixel_values=inputs["pixel_values"]).logits
    found = torch.nn.functional.interpolate(logits, (16, 16), mode="bilinear", align_corners=False).argmax(1)
    counted = inputs["labels"] != 255
    assert not counted[0].any()
    unions = [((found == one) | (inputs["labels"] == one)) & counted for one in (0, 1)]
    both = [(found == one) & (inputs["labels"] == one) for one in (0, 1)]
    wanted = sum(float(a.sum() / b.sum()) for a, b in zip(both, unions, strict=True)) / 2
    assert evaluator._judge(model, "val", make_context())["val_mean_iou"] == pytest.approx(wanted)


def test_hidden_files_are_left_alone(folder: Path) -> None:
    for name in ("images", "masks"):
        (folder / "scenes" / "train" / name / "._0.png").write_bytes(b"no image")
    assert len(_evaluator(folder)._sets["train"]) == 24


def test_repeats_itself_after_another_trial(folder: Path, make_context: MakeContext, reports: Reports) -> None:
    evaluator, config = _evaluator(folder, precision="bfloat16"), {**CONFIG, "dropout": 0.3}
    evaluator(config, make_context())
    evaluator({"targets": "q_proj", "layers": "last-1"}, make_context(seed=1))
    evaluator(config, make_context())
    assert reports[:2] == reports[4:]


def test_a_killed_trial_goes_on_to_the_same_result(folder: Path, make_context: MakeContext, reports: Reports) -> None:
    """Also the statistics of batch normalisation, which are no weights, are kept."""
    evaluator, config = _evaluator(folder, epochs=3), {**CONFIG, "dropout": 0.3}
    whole = evaluator(config, make_context())

    def die(step: int, **metrics: float) -> None:
        raise KeyboardInterrupt

    context = make_context(report=die)
    with pytest.raises(KeyboardInterrupt):
        evaluator(config, context)
    rest = evaluator(config, make_context(trial_folder=context.trial_folder))
    assert [step for step, _ in reports] == [1, 2, 3, 2, 3]
    assert reports[1:3] == reports[3:]
    assert rest == whole


def test_another_number_of_classes_gets_a_new_classifier(folder: Path, make_context: MakeContext) -> None:
    write_segmenter(folder / "segmenter", classes=5)
    evaluator = _evaluator(folder, score="pixel_accuracy")
    assert evaluator._base.fresh == ("decode_head.classifier",)
    assert 0 < evaluator(CONFIG, make_context()).value < 1


def test_a_test_part_is_measured(tmp_path: Path, make_context: MakeContext) -> None:
    write_segmenter(tmp_path / "segmenter")
    write_scenes(tmp_path, parts={"train": 4, "val": 2, "test": 2})
    assert 0 <= _evaluator(tmp_path)(CONFIG, make_context()).metrics["test_mean_iou"] <= 1


def test_a_diverging_training_fails_with_a_reason(folder: Path, make_context: MakeContext) -> None:
    with pytest.raises(DivergedError, match="_loss is nan in epoch 1"):
        _evaluator(folder)({"learning_rate": 1e30}, make_context())


def test_refuses_data_that_is_not_there(folder: Path) -> None:
    assert "data: there is no folder" in _refused(folder, data="none")
    assert f"data: there is no folder {folder}/~nouser" in _refused(folder, data="~nouser")
    assert "data: there is no folder" in _refused(folder, data="none", model="./none"), "the data are read first"
    (folder / "scenes" / "val" / "masks" / "3.png").unlink()
    assert "masks has no 3; give every image its mask" in _refused(folder)
    (folder / "scenes" / "train" / "images" / "3.png").write_bytes(b"nothing")
    assert "3.png as an image (" in _refused(folder)


def test_refuses_images_and_masks_of_different_sizes(folder: Path) -> None:
    Image.new("L", (8, 4)).save(folder / "scenes" / "train" / "masks" / "0.png")
    assert "0.png has 16x16 pixels, its mask 8x4; make them alike" in _refused(folder)


def test_refuses_images_of_one_colour_and_two_of_one_name(folder: Path) -> None:
    images = folder / "scenes" / "train" / "images"
    shutil.copy(images / "3.png", images / "3.jpg")
    assert f"data: {images}/3.jpg and 3.png have one name; rename or remove either" in _refused(folder)
    (images / "3.jpg").unlink()
    for file in images.iterdir():
        Image.new("RGB", (16, 16), "white").save(file)
    assert "all pixels of all training images are 255, 255, 255, of 0 to 255; give" in _refused(folder)


def test_refuses_masks_that_hold_no_classes(folder: Path) -> None:
    _mask(folder, "val", 2)
    assert "a mask of val/ has the value 2; classes are 0 to 1, and 255 is no class" in _refused(folder)
    _mask(folder, "val", 300, "uint16")
    assert "0.png has the value 300; allowed: 0 to 255" in _refused(folder)
    _mask(folder, "val", (1, 2, 3))
    assert "are colours (RGB), no numbers of classes; give a grey or palette image" in _refused(folder)


def test_refuses_an_empty_class(folder: Path) -> None:
    assert "no mask of train/ has a pixel of class 2; number them closely" in _refused(folder, classes=3)
    for number in range(24):
        Image.new("L", (16, 16)).save(folder / "scenes" / "train" / "masks" / f"{number}.png")
    assert "the training masks have one class; at least 2 are needed" in _refused(folder)


def test_images_without_labels_count_for_nothing(folder: Path, make_context: MakeContext, reports: Reports) -> None:
    for part in ("train", "val"):
        _mask(folder, part, 255)
    _evaluator(folder, batch_size=1)(CONFIG, make_context())
    assert len(reports) == 2
    for number in range(8):
        Image.new("L", (16, 16), 255).save(folder / "scenes" / "val" / "masks" / f"{number}.png")
    assert "no mask of val/ has a pixel of any class; all are 255" in _refused(folder)


def test_a_photograph_lies_under_its_mask_as_viewers_show_it(folder: Path) -> None:
    """As labelling programs do; a camera held upright writes the picture lying on its side."""
    upright = np.zeros((32, 16), np.uint8)
    upright[:16] = 255
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    (folder / "scenes" / "train" / "images" / "0.png").unlink()
    photograph = folder / "scenes" / "train" / "images" / "0.jpg"
    Image.fromarray(np.rot90(upright)).save(photograph, exif=turned, quality=95)
    Image.fromarray(upright // 255).save(folder / "scenes" / "train" / "masks" / "0.png")
    inputs = _evaluator(folder)._sets["train"].batch([0]).inputs
    bright = inputs["pixel_values"][0, 0] > inputs["pixel_values"].mean()
    assert torch.equal(bright, inputs["labels"][0] == 1)


def test_refuses_an_image_size_that_the_model_cannot_read(folder: Path) -> None:
    message = _refused(folder, image_size=1)
    assert "image_size = 1: the model cannot read such images (" in message
    assert message.endswith("; take the size that it was trained with")


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_upernet, write_mobilevit])
def test_no_batch_is_too_small_to_be_normalised(
    tmp_path: Path, make_context: MakeContext, write: Callable[[Path], Path]
) -> None:
    write(tmp_path / "segmenter")
    write_scenes(tmp_path, size=32, parts={"train": 5, "val": 1})
    assert 0 <= _evaluator(tmp_path, image_size=32, epochs=1)(CONFIG, make_context()).value <= 1
    message = _refused(tmp_path, image_size=32, batch_size=2)
    assert "batch_size = 2: the model cannot be trained on a batch of 1, and train/ has one (" in message
    assert message.endswith("; change it: batches are equally large, as far as can be")


def test_refuses_a_model_of_another_kind(folder: Path) -> None:
    write_encoder(folder / "encoder")
    message = _refused(folder, model="encoder")
    assert 'model = "encoder" cannot be loaded by AutoModelForSemanticSegmentation (' in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size = 0: must be from 1 to 4096"),
        ({"classes": 1}, "classes = 1: must be from 2 to 255"),
        ({"score": "dice"}, "score = dice: must be mean_iou or pixel_accuracy"),
    ],
)
def test_refuses_impossible_options(folder: Path, options: dict[str, Any], message: str) -> None:
    assert _refused(folder, **options) == f"[evaluator] {message}"
