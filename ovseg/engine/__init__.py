"""Running evaluations: runner, test loop, hooks."""

from ovseg.engine.errors import ResumeError, SetupError
from ovseg.engine.hooks import PredictionHook, ResultHook, VisualizationHook
from ovseg.engine.loop import OVTestLoop
from ovseg.engine.runner import EvalRunner, set_short_side
from ovseg.engine.state import EvalState

__all__ = [
    "EvalRunner",
    "EvalState",
    "OVTestLoop",
    "PredictionHook",
    "ResultHook",
    "ResumeError",
    "SetupError",
    "VisualizationHook",
    "set_short_side",
]
