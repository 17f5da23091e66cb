"""Readers that turn a user's files into checked, split data sets and arrays that all trials share.

Imports only storage, errors, project, signals, space and task.
"""
