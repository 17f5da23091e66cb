"""Space of the detector task, object detection: `python -m platform.tune detector`."""

from ray import tune

from platform.space import Space

SPACE = Space(
    metric="val/map",
    mode="max",
    max_epochs=8,
    grace_epochs=2,
    trials=10,
    confirm="1x3",  # train the best config and the plain baselines again with three seeds
    depth=5,
    params={
        # the model
        "architecture": "fcos",
        "backbone": "mobilenet_v2",
        "weights": "starter",
        "image_size": 128,
        "channels": 128,
        # freezing
        "freeze_depth": tune.randint(0, 6),
        "unfreeze": tune.choice(["never", "at_once", "gradual", "on_plateau"]),
        "unfreeze_at": tune.uniform(0.1, 0.7),
        "batch_norm": tune.choice(["frozen", "updated"]),
        # optimization
        "lr_head": tune.loguniform(5e-4, 1e-2),
        "backbone_ratio": tune.loguniform(0.03, 1.0),
        "layer_decay": tune.uniform(0.5, 1.0),
        "schedule": tune.choice(["constant", "step", "cosine", "one_cycle"]),
        "warmup": tune.uniform(0.0, 0.2),
        "weight_decay": tune.loguniform(1e-5, 1e-1),
        "batch_size": tune.choice([4, 8, 16]),
        # loss; quality is FCOS's centerness, Faster R-CNN's objectness
        "weight_classification": tune.loguniform(0.5, 2.0),
        "weight_box": tune.loguniform(0.5, 4.0),
        "weight_quality": tune.loguniform(0.5, 2.0),
        # data; oversample: images with classes that occur in a smaller share of the images are drawn more often
        "oversample": 0.0,
        "augment": tune.choice([0.0, 0.1, 0.3, 1.0]),  # a choice, as trials with the same views share their cost
        "views": 4,  # per example while stages are frozen; after that a new one each epoch
        "flip": False,
    },
    start={
        "freeze_depth": 2,  # torchvision's detectors also train the last three of five stages by default
        "unfreeze": "never",
        "unfreeze_at": 0.4,
        "batch_norm": "frozen",
        "lr_head": 5e-3,
        "backbone_ratio": 0.1,
        "layer_decay": 0.9,
        "schedule": "one_cycle",
        "warmup": 0.05,
        "weight_decay": 1e-2,
        "batch_size": 8,
        "weight_classification": 1.0,
        "weight_box": 1.0,
        "weight_quality": 1.0,
        "augment": 0.1,
    },
    baselines={
        "from scratch": {
            "weights": "none",
            "freeze_depth": 0,
            "batch_norm": "updated",
            "backbone_ratio": 1.0,
            "layer_decay": 1.0,
        },
    },
)
