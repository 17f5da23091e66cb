"""Space of the sentences task, one text encoder for several labels: `python -m platform.tune sentences`.

The head of a label column X is declared by head_layers_X, loss_weight_X and freeze_X. For another head add these three
parameters, and val/X/f1 to the objectives for the list of Pareto-optimal trials.
"""

from ray import tune

from platform.space import Space

SPACE = Space(
    metric="val/f1",  # the mean of the heads' macro F1
    mode="max",
    max_epochs=8,
    grace_epochs=2,
    trials=12,
    confirm="1x3",  # train the best config and the plain baselines again with three seeds
    depth=5,  # stages of the starter; for another backbone the range of freeze_depth is scaled
    objectives=("val/genre/f1", "val/sentiment/f1"),
    params={
        # the data
        "encoding": "detect",
        "max_tokens": 64,
        # the encoder: starter, a folder or a name of the hub; weights: DEFAULT or none
        "backbone": "starter",
        "weights": "DEFAULT",
        "layer": tune.choice([-1, -2, -3]),  # the layer whose output is used; the layers above it are dropped
        "pooling": tune.choice(["mean", "cls", "max"]),
        # the heads: multi-layer perceptrons with LayerNorm; new, or a study's weights/heads.safetensors
        "heads": "new",
        "head_layers_genre": 2,
        "head_layers_sentiment": 1,
        "head_width": tune.choice([64, 128, 256]),
        "head_dropout": tune.uniform(0.0, 0.5),
        # freezing; a depth beyond the layer that is used freezes the whole encoder
        "freeze_depth": tune.randint(0, 6),
        "unfreeze": tune.choice(["never", "at_once", "gradual", "on_plateau"]),
        "unfreeze_at": tune.uniform(0.1, 0.7),
        "freeze_genre": False,
        "freeze_sentiment": False,
        # optimization
        "lr_head": tune.loguniform(3e-4, 1e-2),
        "backbone_ratio": tune.loguniform(0.01, 1.0),
        "layer_decay": tune.uniform(0.5, 1.0),
        "schedule": tune.choice(["constant", "step", "cosine", "one_cycle"]),
        "warmup": tune.uniform(0.0, 0.2),
        "weight_decay": tune.loguniform(1e-5, 1e-1),
        "batch_size": tune.choice([16, 32, 64]),
        # loss: the heads' cross-entropies, weighted by these weights or by learned uncertainty
        "weighting": tune.choice(["fixed", "uncertainty"]),
        "loss_weight_genre": tune.loguniform(0.3, 3.0),
        "loss_weight_sentiment": tune.loguniform(0.3, 3.0),
    },
    start={
        "layer": -2,
        "pooling": "mean",
        "head_width": 128,
        "head_dropout": 0.1,
        "freeze_depth": 0,
        "unfreeze": "never",
        "unfreeze_at": 0.2,
        "lr_head": 2e-3,
        "backbone_ratio": 0.2,
        "layer_decay": 0.9,
        "schedule": "one_cycle",
        "warmup": 0.05,
        "weight_decay": 1e-2,
        "batch_size": 32,
        "weighting": "fixed",
        "loss_weight_genre": 1.0,
        "loss_weight_sentiment": 1.0,
    },
    baselines={
        "from scratch": {
            "weights": "none",
            "heads": "new",
            "freeze_depth": 0,
            "freeze_genre": False,
            "freeze_sentiment": False,
            "backbone_ratio": 1.0,
            "layer_decay": 1.0,
        },
        "only the heads": {
            "freeze_depth": 5,
            "unfreeze": "never",
            "freeze_genre": False,
            "freeze_sentiment": False,
        },
    },
)
