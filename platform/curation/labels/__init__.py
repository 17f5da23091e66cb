"""Grouping labels as typed into classes."""
