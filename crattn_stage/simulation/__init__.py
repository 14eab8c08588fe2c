"""Simulated hits (`hits`) and skies (`skies`), for the demonstration, training and tests."""
