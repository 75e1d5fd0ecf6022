"""Errors that a user of the commands can mend."""

from __future__ import annotations


class UserError(Exception):
    """Something is in the way of the command; the message names it and says what to do."""
