"""Files, buckets, checkpoints and hashes: how anything is written so that a crash leaves it whole.

Lies below data. Imports only errors, project, signals, space and task.
"""
