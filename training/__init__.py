"""Train the networks that `crattn_stage` runs, and measure them beside other methods.

``python -m training --help``.  `crattn_stage` does not import this package; its commands join
``crattn-stage`` through the entry points ``crattn_stage.commands``.
"""
