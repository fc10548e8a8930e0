"""One model behind HTTP, many requests at a time; see docs/serve.md."""

from ovseg.serve.limits import Limits, Refused

__all__ = ["Limits", "Refused"]
