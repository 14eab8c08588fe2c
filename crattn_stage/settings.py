"""What a user's environment says where the command line does not."""

import os

import click


def default_database():
    """Return the URL of the user's own provenance database."""
    return f"sqlite:///{os.path.join(click.get_app_dir('crattn-stage'), 'provenance.sqlite')}"
