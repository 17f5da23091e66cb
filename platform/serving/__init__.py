"""Saved models in use: found, run on new inputs, exported, shown in a demo.

Imports evaluation, cluster and what lies below them.
"""
