"""Space of the autoencoder task, even or odd digits: `python -m platform.tune autoencoder`.

The epochs are those of the classifier; the epochs of pretraining are not counted.
"""

from ray import tune

from platform.space import Space

FROM_SCRATCH = {
    "weights": "none",
    "pretrain_epochs": 0,
    "freeze_depth": 0,
    "unfreeze": "never",
    "backbone_ratio": 1.0,
    "layer_decay": 1.0,
}

SPACE = Space(
    metric="val/accuracy",
    mode="max",
    max_epochs=10,
    grace_epochs=3,
    trials=16,
    confirm="1x3",  # train the best config and the plain baselines again with three seeds
    depth=4,
    params={
        # the encoder; these are choices, not ranges, as trials with the same pretraining share it
        "bottleneck": tune.choice([32, 64, 128]),
        "width": tune.choice([8, 16]),
        "dropout": tune.choice([0.0, 0.1, 0.2]),
        "weights": "none",
        # pretraining: reconstruct all training images, without labels
        "pretrain_epochs": tune.choice([0, 5, 10, 20, 40, 80]),
        "lr_pretrain": tune.choice([1e-3, 3e-3]),
        "patience": 5,
        # freezing
        "freeze_depth": tune.randint(0, 5),
        "unfreeze": tune.choice(["never", "at_once", "gradual", "on_plateau"]),
        "unfreeze_at": tune.uniform(0.1, 0.7),
        "label_fraction": 1.0,
        # optimization
        "lr_head": tune.loguniform(5e-4, 1e-2),
        "backbone_ratio": tune.loguniform(0.03, 1.0),
        "layer_decay": tune.uniform(0.5, 1.0),
        "schedule": tune.choice(["constant", "step", "cosine", "one_cycle"]),
        "warmup": tune.uniform(0.0, 0.2),
        "weight_decay": tune.loguniform(1e-5, 1e-1),
        "batch_size": tune.choice([32, 64, 128]),
        "augment": tune.choice([0.0, 0.2, 0.5, 1.0]),  # a choice, as trials with the same views share their cost
        "views": 4,  # per example while stages are frozen; after that a new one each epoch
    },
    start={
        "bottleneck": 64,
        "width": 16,
        "dropout": 0.1,
        "pretrain_epochs": 80,
        "lr_pretrain": 3e-3,
        "freeze_depth": 0,
        "unfreeze": "never",
        "unfreeze_at": 0.3,
        "lr_head": 3e-3,
        "backbone_ratio": 1.0,
        "layer_decay": 1.0,
        "schedule": "one_cycle",
        "warmup": 0.0,
        "weight_decay": 1e-2,
        "batch_size": 64,
        "augment": 0.0,
    },
    baselines={
        "pretrained": {"label_fraction": 1.0},
        "from scratch": FROM_SCRATCH,
        "pretrained, 10 % of labels": {"label_fraction": 0.1},
        "from scratch, 10 % of labels": {**FROM_SCRATCH, "label_fraction": 0.1},
        "pretrained, 1 % of labels": {"label_fraction": 0.01},
        "from scratch, 1 % of labels": {**FROM_SCRATCH, "label_fraction": 0.01},
    },
)
