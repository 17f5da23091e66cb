"""Grouping of typed labels into classes."""
