"""The old place of the head."""

from ovseg._moved import moved

__getattr__ = moved(__name__, {"MaxQueryHead": "ovseg.heads"})
