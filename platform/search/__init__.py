"""Search controller: choice, pruning and confirmation of trials, and the adapter to Ray Tune.

Imports evaluation, cluster and what lies below them.
"""
