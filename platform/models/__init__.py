"""Pretrained models as ordered stages: backbones, detectors, encoders, text encoders and heads.

Imports data, storage and what lies below them.
"""
