"""Records of one study: its request, event log, trial table and metadata, earlier studies, and numbers as text.

Imports data, storage and what lies below them.
"""
