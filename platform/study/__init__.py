"""One study on paper: its request, event log, trial table and metadata, and earlier studies.

Imports data, storage and what lies below them.
"""
