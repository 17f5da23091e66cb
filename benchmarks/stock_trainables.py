"""Trainables of the four tasks for stock Ray Tune, as in Ray's guide to hyperparameter tuning with PyTorch.

Each is a PyTorch loop over a DataLoader with a checkpoint and a report an epoch. Models, losses, learning-rate groups
and schedules are the platform's own functions, so that both sides of a comparison train the same. Every trial opens and
decodes its data itself, batch by batch; frozen stages are frozen with `requires_grad` and `eval`, and run in each step.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from platform.models.stages import Stage
from platform.training import schedules
from platform.training.freezing import Freezing
from platform.training.optimization import Optimization, parameter_groups


def train(config: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], task: str, data: str, metric: str) -> None:
    """Train a trial of a study again, chosen by its number: the same config for as many epochs."""
    trial = trials[config["trial"]]
    makers = {"classifier": classifier, "detector": detector, "autoencoder": autoencoder, "sentences": sentences}
    makers[task](trial["config"], trial["epochs"], trial["budget"], Path(data), metric)


def classifier(config: Mapping[str, Any], epochs: int, budget: int, data: Path, metric: str) -> None:
    """Train a classifier on images that are opened, resized and augmented batch by batch."""
    from platform.data.classification.arrays import open_arrays
    from platform.models import encoders
    from trainables.classifier import Network, class_weights

    torch.manual_seed(0)
    encoder = encoders.load(config["backbone"], config["weights"])
    size = config["image_size"] or encoder.image_size
    index = open_arrays(data / f"{size}-of-{round(size / encoder.crop)}")
    s = config["augment"]
    crop = [v2.Resize(round(size / encoder.crop), v2.InterpolationMode.BICUBIC), v2.CenterCrop(size)]
    tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    moved = v2.RandomAffine(20 * s, (0.1 * s, 0.1 * s), (1 - 0.2 * s, 1 + 0.2 * s))
    changes = [moved, v2.ColorJitter(0.4 * s, 0.4 * s, 0.4 * s)] if s else []

    class Files(Dataset):
        def __init__(self, split: str, transform: v2.Transform) -> None:
            self.indices, self.transform = index.split[split], transform

        def __len__(self) -> int:
            return len(self.indices)

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            number = self.indices[row]
            image = Image.open(index.index["paths"][number]).convert("RGB")
            return self.transform(image), int(index.labels[number])

    model = Network(encoder, config, len(index.classes))
    labels = index.labels[index.split["train"]]
    weight = class_weights(labels, len(index.classes), config["class_weights"])
    training = DataLoader(Files("train", v2.Compose([*crop, *changes, *tensor])), config["batch_size"], shuffle=True)
    validation = DataLoader(Files("val", v2.Compose([*crop, *tensor])), 64)

    def loss(batch: Any) -> Tensor:
        return F.cross_entropy(model({"x": batch[0]}), batch[1], weight, label_smoothing=config["label_smoothing"])

    def evaluate() -> float:
        right = [model({"x": images}).argmax(1) == answers for images, answers in validation]
        return float(torch.cat(right).float().mean())

    _loop(model, model.stages(), training, loss, evaluate, config, epochs, budget, metric)


def detector(config: Mapping[str, Any], epochs: int, budget: int, data: Path, metric: str) -> None:
    """Train a detector on images that are opened, resized and augmented batch by batch."""
    from torchmetrics.detection import MeanAveragePrecision

    from platform.data import images
    from platform.data.detection.arrays import open_arrays
    from platform.models import detectors
    from trainables.detector import _augmentation, _build

    torch.manual_seed(0)
    index = open_arrays(data / str(config["image_size"]))
    metadata = {"classes": index.classes, "input_size": index.input_size, "config": config}
    model = _build(metadata, config["weights"])

    class Files(Dataset):
        def __init__(self, split: str, transform: v2.Transform | None) -> None:
            self.indices, self.transform = index.split[split], transform

        def __len__(self) -> int:
            return len(self.indices)

        def __getitem__(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
            number = int(self.indices[row])
            array, _ = images.letterbox(Image.open(index.index["paths"][number]).convert("RGB"), *index.input_size)
            target = index.target(number)
            boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=index.input_size)  # type: ignore[call-overload]
            example = {"image": tv_tensors.Image(torch.from_numpy(array)), "boxes": boxes}
            if self.transform:
                example = self.transform(example)
            kept, stays = v2.functional.sanitize_bounding_boxes(example["boxes"], min_size=2, min_area=8)
            changed = {"boxes": kept.as_subclass(Tensor), "labels": target["labels"][stays]}
            return example["image"].as_subclass(Tensor).float() / 255, changed

    transform = _augmentation(config["augment"], config["flip"]) if config["augment"] or config["flip"] else None

    def collate(batch: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Any], ...]:
        return tuple(map(list, zip(*batch, strict=True)))

    training = DataLoader(Files("train", transform), config["batch_size"], shuffle=True, collate_fn=collate)
    validation = DataLoader(Files("val", None), 16, collate_fn=collate)

    def loss(batch: Any) -> Tensor:
        parts = model({"images": torch.stack(batch[0])}, batch[1])
        return torch.stack(
            [config[f"weight_{detectors.LOSS_PARTS[name]}"] * part for name, part in parts.items()]
        ).sum()

    def evaluate() -> float:
        score = MeanAveragePrecision(backend="faster_coco_eval")
        for inputs, targets in validation:
            score.update(model({"images": torch.stack(inputs)}), targets)
        return float(score.compute()["map"])

    _loop(model, detectors.stages(), training, loss, evaluate, config, epochs, budget, metric)


def autoencoder(config: Mapping[str, Any], epochs: int, budget: int, data: Path, metric: str) -> None:
    """Pretrain an autoencoder in the trial itself, and train the head."""
    from platform.data import augment
    from platform.models.autoencoders import Autoencoder, BinaryClassifier
    from trainables.autoencoder import _build, _open, first_labelled

    torch.manual_seed(0)
    digits = _open(data, torch.device("cpu"))
    images = torch.from_numpy(np.array(digits.images)).unsqueeze(1).float() / 255
    odd = torch.from_numpy(np.array(digits.labels) % 2).float()
    indices, val = digits.split["train"], digits.split["val"]
    model = _build(digits.size, config["width"], config["bottleneck"], config["dropout"], config["weights"])
    if config["pretrain_epochs"]:
        whole = Autoencoder(digits.size, config["width"], config["bottleneck"], config["dropout"])
        optimizer, best, since = torch.optim.AdamW(whole.parameters(), lr=config["lr_pretrain"]), float("inf"), 0
        for _ in range(config["pretrain_epochs"]):
            whole.train()
            for (batch,) in DataLoader(TensorDataset(images[indices]), 64, shuffle=True):
                value = F.mse_loss(whole(batch), batch)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            whole.eval()
            with torch.no_grad():
                error = float(F.mse_loss(whole(images[val]), images[val]))
            best, since = (error, 0) if error < best else (best, since + 1)
            if since >= config["patience"]:
                break
        model.encoder.load_state_dict(whole.encoder.state_dict())
    labelled = first_labelled(digits.labels, indices, config["label_fraction"], 0)
    repeated = np.resize(labelled, len(indices))  # the number of steps does not depend on the number of labels
    training = DataLoader(TensorDataset(images[repeated], odd[repeated]), config["batch_size"], shuffle=True)

    def loss(batch: Any) -> Tensor:
        pixels = augment.affine(batch[0], config["augment"], torch.rand(len(batch[0]), 4) * 2 - 1)
        return F.binary_cross_entropy_with_logits(model({"x": pixels}), batch[1])

    def evaluate() -> float:
        return float(((model({"x": images[val]}) > 0).float() == odd[val]).float().mean())

    _loop(model, BinaryClassifier.stages(), training, loss, evaluate, config, epochs, budget, metric)


def sentences(config: Mapping[str, Any], epochs: int, budget: int, data: Path, metric: str) -> None:
    """Train a text classifier on texts that are tokenized at the start of the trial."""
    from sklearn.metrics import f1_score

    from platform.data.text.arrays import MISSING, open_arrays
    from platform.models import text_encoders
    from platform.models.multi_head import losses, weighted
    from trainables.sentences import _build, _frozen_heads, _tokens_folder

    torch.manual_seed(0)
    index = open_arrays(_tokens_folder(data, config["backbone"], config["max_tokens"]))
    encoder, tokenizer = text_encoders.load(config["backbone"], config["weights"] != "none", config["layer"])
    tokens, mask = text_encoders.tokenize(tokenizer, index.texts, config["max_tokens"])
    lengths, labels = mask.sum(1), torch.from_numpy(np.array(index.labels))
    model: Any = _build(encoder, config, index.classes)
    fixed = {head: config[f"loss_weight_{head}"] for head in index.classes}

    def collate(indices: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        longest = int(lengths[indices].max())
        arrays = {"tokens": tokens[indices, :longest], "mask": mask[indices, :longest]}
        state = {name: torch.from_numpy(array).long() for name, array in arrays.items()}
        return state, labels[indices]

    training = DataLoader(index.split["train"].tolist(), config["batch_size"], shuffle=True, collate_fn=collate)  # type: ignore[arg-type]
    validation = DataLoader(index.split["val"].tolist(), 64, collate_fn=collate)  # type: ignore[arg-type]

    def loss(batch: Any) -> Tensor:
        return weighted(losses(model(batch[0]), batch[1]), fixed, model.log_variances)

    def evaluate() -> float:
        answers: dict[str, list[np.ndarray]] = {head: [] for head in index.classes}
        targets = []
        for state, truth in validation:
            targets.append(truth.numpy())
            for head, logits in model(state).items():
                answers[head].append(logits.argmax(1).numpy())
        truth, scores = np.concatenate(targets), []
        for column, head in enumerate(index.classes):
            known = truth[:, column] != MISSING
            scores.append(f1_score(truth[known, column], np.concatenate(answers[head])[known], average="macro"))
        return float(np.mean(scores))

    always = _frozen_heads(model, config)
    depth = min(config["freeze_depth"], len(encoder.stages()))
    config = {**config, "freeze_depth": depth}
    _loop(model, model.stages(), training, loss, evaluate, config, epochs, budget, metric, always)


def _loop(
    model: nn.Module,
    stages: Sequence[Stage],
    batches: DataLoader,
    loss: Callable[[Any], Tensor],
    evaluate: Callable[[], float],
    config: Mapping[str, Any],
    epochs: int,
    budget: int,
    metric: str,
    always: Sequence[str] = (),
) -> None:
    from ray import tune

    groups = parameter_groups(model, stages, Optimization.of(config))
    optimizer = torch.optim.AdamW(groups)
    freezing = Freezing(config["freeze_depth"], config["unfreeze"], config["unfreeze_at"])
    frozen, last_unfreeze, scores, step = freezing.depth, -1, list[float](), 0
    for epoch in range(epochs):
        due = freezing.frozen_at(epoch, budget, frozen, last_unfreeze, scores)
        frozen, last_unfreeze = due, epoch if due < frozen else last_unfreeze
        _set_modes(model, stages, frozen, always, config.get("batch_norm", "frozen"))
        for batch in batches:
            step += 1
            factor = schedules.factor(config["schedule"], step / (budget * len(batches)), config["warmup"])
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            value = loss(batch)
            if not value.requires_grad:
                continue
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            scores.append(evaluate())
        with tempfile.TemporaryDirectory() as folder:
            torch.save((model.state_dict(), optimizer.state_dict()), Path(folder) / "checkpoint.pt")
            tune.report({metric: scores[-1]}, checkpoint=tune.Checkpoint.from_directory(folder))


def _set_modes(model: nn.Module, stages: Sequence[Stage], frozen: int, always: Sequence[str], batch_norm: str) -> None:
    model.train()
    modules = dict(model.named_modules())
    for number, stage in enumerate(stages):
        is_frozen = number < frozen or stage.name in always
        for prefix in stage.prefixes:
            if prefix in modules:
                modules[prefix].requires_grad_(not is_frozen).train(not is_frozen)
                for child in modules[prefix].modules():
                    if stage.backbone and batch_norm == "frozen" and isinstance(child, nn.modules.batchnorm._BatchNorm):
                        child.eval()
