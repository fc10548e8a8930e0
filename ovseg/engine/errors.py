"""Errors of the person at the keyboard, told in one line by the tools."""

from __future__ import annotations

from ovseg.errors import SetupError

__all__ = ["ResumeError", "SetupError"]


class ResumeError(SetupError):
    """A saved state does not belong to this evaluation, or is damaged."""
