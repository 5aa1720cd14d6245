"""``kind = "lora-segment"``: adapters for a pretrained model that names the class of every pixel.

Any semantic segmentation of Hugging Face's, such as SegFormer; its decoder is trained fully. `lora_space` says what a
space may name, `lora_training` how it is trained, `masked_images` what the data look like. The score is the mean over
the classes of intersection over union, from 0 to 1, at the size of the resized images.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any

from torch.nn.functional import interpolate
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from transformers import AutoModelForSemanticSegmentation

from ncode_search.evaluators.base import Context
from ncode_search.evaluators.lora_training import Examples, LoraEvaluator
from ncode_search.evaluators.masked_images import UNLABELLED, MaskedImages, count_classes, read_masked_images
from ncode_search.evaluators.options import require, user_path
from ncode_search.evaluators.pretrained import image_scale

SCORES = ("mean_iou", "pixel_accuracy")


@dataclass(frozen=True, kw_only=True)
class LoraSegmentEvaluator(LoraEvaluator):
    """Trains adapters and a decoder to segment images. The fields are the TOML keys."""

    folder: InitVar[Path]

    data: str
    """A folder of ``train/``, ``val/``, perhaps ``test/``, each with ``images/`` and ``masks/``."""
    image_size: int = 512
    """Pixels that the sides of images and masks are resized to."""
    classes: int = 0
    """The number of classes; left out, one more than the highest number in the training masks."""
    score: str = "mean_iou"
    """``mean_iou`` or ``pixel_accuracy``."""

    def __post_init__(self, folder: Path) -> None:
        self._check_options()
        require(1 <= self.image_size <= 4096, "image_size", self.image_size, "from 1 to 4096")
        require(self.classes == 0 or 2 <= self.classes <= UNLABELLED, "classes", self.classes, "from 2 to 255")
        require(self.score in SCORES, "score", self.score, " or ".join(SCORES))
        # The data first: whoever has not prepared them should not wait for the hub.
        read = read_masked_images(user_path(self.data, folder), self.image_size)
        classes = count_classes(read, self.classes)
        mean, std = image_scale(self.model, folder)
        parts = {name: images.scaled(mean, std) for name, images in read.items()}
        self._load_base(
            AutoModelForSemanticSegmentation,
            folder,
            train_head=True,
            num_labels=classes,
            semantic_loss_ignore_index=UNLABELLED,
        )
        self._check_size(parts["train"])
        self._check_batches(parts["train"])
        self._set_up(parts)

    def _check_size(self, images: MaskedImages) -> None:
        """Refuse an image size that the model cannot read."""
        wrong = f"image_size = {self.image_size}: the model cannot read such images"
        mend = "take the size that it was trained with"
        self._try(self._base.model.eval(), images.batch([0]).inputs, wrong, mend)

    def _check_batches(self, images: MaskedImages) -> None:
        """Refuse batches that the model cannot be trained on, as some cannot on a single image."""
        count = self._smallest_batch(images)
        wrong = f"batch_size = {self.batch_size}: the model cannot be trained on a batch of {count}, and train/ has one"
        # A copy: what it sees in training changes the statistics of batch normalisation.
        model = self._base.adapted({"rank": 1}, str(self._base.model.device)).train()
        self._try(
            model, images.batch([0] * count).inputs, wrong, "change it: batches are equally large, as far as can be"
        )

    @property
    def _measures(self) -> tuple[str, ...]:
        return (*SCORES, "loss")

    def _validate(self, model: Any, examples: Examples, context: Context) -> dict[str, float]:
        classes = model.config.num_labels
        iou = MulticlassJaccardIndex(classes, ignore_index=UNLABELLED)
        right = MulticlassAccuracy(classes, average="micro", ignore_index=UNLABELLED)
        loss, pixels = 0.0, 0
        for batch in self._batches(examples):
            output, masks = self._run(model, batch.inputs, context), batch.inputs["labels"]
            logits = interpolate(output.logits.float(), masks.shape[1:], mode="bilinear", align_corners=False)
            found = logits.argmax(1).cpu()
            iou.update(found, masks)
            right.update(found, masks)
            loss, pixels = loss + float(output.loss) * batch.labels, pixels + batch.labels
        return {"mean_iou": float(iou.compute()), "pixel_accuracy": float(right.compute()), "loss": loss / pixels}
