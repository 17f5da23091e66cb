from ray import tune

from platform.space import Space

SPACE = Space(
    params={"pause": 0.0, "freeze_depth": tune.randint(0, 2), "lr_head": tune.loguniform(1e-2, 1e-1)},
    metric="val/error",
    mode="min",
    max_epochs=3,
    grace_epochs=1,
    trials=3,
    depth=1,
    start={"freeze_depth": 0, "lr_head": 5e-2},
    baselines={"frozen": {"freeze_depth": 1}},
)
