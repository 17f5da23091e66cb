"""Which trial runs next, when one is pruned and which are confirmed, and the adapter to Ray Tune.

Imports evaluation, cluster and what lies below them.
"""
