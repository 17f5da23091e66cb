"""Files, buckets, checkpoints and hashes. Everything is written so that a crash leaves no partial file.

Lies below data. Imports only errors, project, signals, space and task.
"""
