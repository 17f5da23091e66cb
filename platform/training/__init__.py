"""One trial: the training loop, freezing, the feature store of frozen stages and the audit of what was trained.

Imports models, study and what lies below them.
"""
