"""Scores, figures, error examples and the baselines that need no training loop.

Imports training, tracking and what lies below them.
"""
