"""Space of the classifier task, image classification: `python -m platform.tune classifier`."""

from ray import tune

from platform.space import Space

SPACE = Space(
    metric="val/accuracy",
    mode="max",
    max_epochs=12,
    grace_epochs=3,
    trials=12,
    confirm="1x3",  # train the best config and the plain baselines again with three seeds
    depth=6,  # stages of the starter; for another backbone the range of freeze_depth is scaled
    params={
        # the encoder: an open_clip or torchvision name, hf-hub:ORG/MODEL or local-dir:FOLDER, and its weights
        "backbone": "local-dir:starters/clip",
        "weights": "DEFAULT",
        "image_size": 0,  # 0 for the encoder's own size
        # the head
        "head_layers": tune.choice([0, 1, 2]),
        "head_width": tune.choice([64, 128, 256]),
        "head_dropout": tune.uniform(0.0, 0.5),
        "head_norm": tune.choice(["none", "batch", "layer"]),
        # freezing
        "freeze_depth": tune.randint(0, 7),
        "unfreeze": tune.choice(["never", "at_once", "gradual", "on_plateau"]),
        "unfreeze_at": tune.uniform(0.1, 0.7),
        "batch_norm": tune.choice(["frozen", "updated"]),
        # optimization
        "lr_head": tune.loguniform(3e-4, 1e-2),
        "backbone_ratio": tune.loguniform(0.01, 1.0),
        "layer_decay": tune.uniform(0.5, 1.0),
        "schedule": tune.choice(["constant", "step", "cosine", "one_cycle"]),
        "warmup": tune.uniform(0.0, 0.2),
        "weight_decay": tune.loguniform(1e-5, 1e-1),
        "batch_size": tune.choice([16, 32, 64]),
        # loss
        "label_smoothing": tune.uniform(0.0, 0.2),
        "class_weights": tune.choice(["none", "balanced"]),
        # data
        "augment": tune.choice([0.0, 0.2, 0.5, 1.0]),  # a choice, as trials with the same views share their cost
        "views": 4,  # per example while stages are frozen; after that a new one each epoch
        "flip": False,
    },
    start={
        "head_layers": 1,
        "head_width": 128,
        "head_dropout": 0.1,
        "head_norm": "batch",
        "freeze_depth": 6,  # the whole encoder: only the head is trained
        "unfreeze": "never",
        "unfreeze_at": 0.3,
        "batch_norm": "frozen",
        "lr_head": 3e-3,
        "backbone_ratio": 0.1,
        "layer_decay": 0.8,
        "schedule": "one_cycle",
        "warmup": 0.0,
        "weight_decay": 1e-2,
        "batch_size": 32,
        "label_smoothing": 0.05,
        "class_weights": "none",
        "augment": 0.2,
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
