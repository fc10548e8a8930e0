"""Registries of everything a config can name.

Each role of the pipeline (see ``docs/architecture.md``) has its own registry, so that a config which names a
refiner where an attention belongs fails at build time with the list of what would fit. All are children of
MMEngine's root registries where one exists: ``_scope_`` prefixes and ``custom_imports`` work as in any project of its.
"""

from mmengine.registry import (
    DATA_SAMPLERS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
    Registry,
)
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import VISUALIZERS as _VISUALIZERS

SCOPE = "ovseg"

MODELS = Registry("model", parent=_MODELS, scope=SCOPE, locations=["ovseg.segmentors", "ovseg.nano"])
BACKBONES = Registry("backbone", scope=SCOPE, locations=["ovseg.backbones"])
ATTENTIONS = Registry("attention", scope=SCOPE, locations=["ovseg.attention"])
GUIDES = Registry("guide", scope=SCOPE, locations=["ovseg.backbones"])
REGION_ENCODERS = Registry("region encoder", scope=SCOPE, locations=["ovseg.regions"])
REGIONS = Registry("regions", scope=SCOPE, locations=["ovseg.regions"])
STITCHES = Registry("stitch", scope=SCOPE, locations=["ovseg.stitches"])
HEADS = Registry("head", scope=SCOPE, locations=["ovseg.heads"])
REFINERS = Registry("refiner", scope=SCOPE, locations=["ovseg.refiners"])
VIEWS = Registry("views", scope=SCOPE, locations=["ovseg.views"])

DATASETS = Registry("dataset", parent=_DATASETS, scope=SCOPE, locations=["ovseg.datasets", "ovseg.nano"])
TRANSFORMS = Registry("transform", parent=_TRANSFORMS, scope=SCOPE, locations=["ovseg.datasets", "ovseg.regions"])
METRICS = Registry("metric", parent=_METRICS, scope=SCOPE, locations=["ovseg.evaluation"])
LOOPS = Registry("loop", parent=_LOOPS, scope=SCOPE, locations=["ovseg.engine"])
HOOKS = Registry("hook", parent=_HOOKS, scope=SCOPE, locations=["ovseg.engine"])
VISUALIZERS = Registry("visualizer", parent=_VISUALIZERS, scope=SCOPE, locations=["ovseg.visualization"])

# MMEngine warns about every kind of part that the scope has no registry for. These hold nothing of ours: what is
# looked up in them is found in their parents.
INHERITED = tuple(
    Registry(root.name, parent=root, scope=SCOPE)
    for root in (
        DATA_SAMPLERS,
        OPTIMIZERS,
        OPTIM_WRAPPERS,
        OPTIM_WRAPPER_CONSTRUCTORS,
        PARAM_SCHEDULERS,
        VISBACKENDS,
    )
)
