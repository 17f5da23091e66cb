"""Ray as infrastructure: starting it, nodes, jobs, checks before a study and costs.

Imports training, tracking and what lies below them.
"""
