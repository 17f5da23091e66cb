"""Use of saved models: finding them, writing their predictions, export to ONNX and the demo's page.

Imports evaluation, cluster and what lies below them.
"""
