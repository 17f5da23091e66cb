"""Pages and charts about finished or running studies.

Imports search, serving and what lies below them.
"""
