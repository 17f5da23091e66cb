"""From a list of image addresses to a clean, stratified data set; used by `python -m platform.dataset` alone.

Imports reporting and what lies below it; nothing but the command imports it.
"""
