"""Tracking of a study outside its folder: MLflow and TensorBoard.

Imports models, study and what lies below them.
"""
