"""One study from its request to its result.

Imports search, serving and what lies below them.
"""
