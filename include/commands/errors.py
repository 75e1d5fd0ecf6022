"""Errors that a user of the commands can fix."""

from __future__ import annotations


class UserError(Exception):
    """The command cannot continue; the message names the obstacle and the remedy."""
