"""Running evaluations: runner, test loop, hooks."""

from ovseg.engine.config import check_config, config_root, load_config
from ovseg.engine.errors import ResumeError, SetupError
from ovseg.engine.hooks import PredictionHook, ResultHook, SpreadHook, VisualizationHook
from ovseg.engine.loop import OVTestLoop
from ovseg.engine.runner import EvalRunner, TrainRunner, set_short_side
from ovseg.engine.state import EvalState
from ovseg.engine.work_dir import hold_work_dir

__all__ = [
    "EvalRunner",
    "EvalState",
    "OVTestLoop",
    "PredictionHook",
    "ResultHook",
    "ResumeError",
    "SetupError",
    "SpreadHook",
    "TrainRunner",
    "VisualizationHook",
    "check_config",
    "config_root",
    "hold_work_dir",
    "load_config",
    "set_short_side",
]
