"""Offline training and evaluation of the networks that `crattn_stage` runs.

Run from a clone: ``python -m training --help``.
"""
