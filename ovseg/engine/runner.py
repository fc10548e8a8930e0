"""MMEngine's runner, set up for evaluation."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce_dict, is_distributed
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import nn

from ovseg.arguments import side_in_pixels, whole_number
from ovseg.backbones.precision import ENVIRONMENT_VARIABLE, describe_precision, set_precision
from ovseg.class_files import ClassListError
from ovseg.engine.class_words import check_config
from ovseg.engine.errors import ResumeError, SetupError
from ovseg.engine.folder import set_folder
from ovseg.engine.memory import keep_freed_memory
from ovseg.errors import ComponentError
from ovseg.float32 import all_finite
from ovseg.registry import DATASETS
from ovseg.structures import DEVICE_VARIABLE, resolve_device

_NEEDED = {
    "model": "name a method, e.g. _base_/models/sclip.py in its _base_",
    "test_dataloader": "add a benchmark to its _base_, e.g. _base_/datasets/voc21.py",
    "test_evaluator": "add test_evaluator = dict(type='SegMetric')",
    "test_cfg": "add test_cfg = dict(type='OVTestLoop'), or _base_/runtime/eval.py to its _base_",
}


def set_short_side(cfg: Config) -> None:
    """Write the config's ``short_side`` into the resize step of its test pipelines, in place.

    One line, ``short_side = 448``, in a method's config or on the command line then says at which resolution it runs;
    a list such as a pipeline could only be overridden whole.

    Raises:
        SetupError: if there is no such step, so that the option would do nothing; if it is ``None`` and there is one;
            or if it is no whole number of pixels.
    """
    if "short_side" not in cfg:
        return
    short_side = cfg.short_side
    pipelines = [cfg.get("test_pipeline") or []]
    loader = cfg.get("test_dataloader")
    if loader:
        pipelines.append(loader["dataset"].get("pipeline") or [])
    steps = [step for pipeline in pipelines for step in pipeline if "short_side" in step]
    if short_side is None:
        if steps:
            raise SetupError(
                "short_side=None would change nothing: the test pipeline resizes all the same. Take "
                f"dict(type={steps[0].get('type')!r}, ...) out of it to keep photos at their own size"
            )
        return
    try:
        short_side = side_in_pixels("short_side", short_side)
    except ValueError as error:
        raise SetupError(str(error)) from error
    for step in steps:
        step["short_side"] = short_side
    if any(pipelines) and not steps:
        raise SetupError(
            f"short_side={short_side} would change nothing: no step of the test pipeline resizes. Add "
            "dict(type='ResizeShortSide', short_side=...) after the loading steps, or leave short_side out"
        )


@contextmanager
def named_setup_errors(cfg: Config) -> Iterator[None]:
    """What a part of a run raises while it is built, as one :class:`SetupError` that names the config file.

    Errors that say all themselves (a missing data set, a damaged checkpoint, a file that cannot be written) pass.
    """
    try:
        yield
    except ResumeError:
        raise
    except (SetupError, TypeError, ValueError, KeyError, AttributeError, AssertionError, ImportError) as error:
        plain = (SetupError, ComponentError, TypeError, ValueError, KeyError, AttributeError, AssertionError)
        if type(error) not in plain and not isinstance(error, ImportError | ClassListError):
            raise
        where = f"config {cfg.filename}" if cfg.filename else "config"
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        if isinstance(error, SetupError) and text.startswith(where):
            raise
        text = " ".join(text.split())
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise SetupError(f"{where}: {kind}{text}") from error


@MODEL_WRAPPERS.register_module()
class AveragedRecords(MMDistributedDataParallel):
    """MMEngine's wrapper of a model that several processes train; what is logged is the mean over the processes.

    MMEngine's own logs the first process' losses, which are those of its share of the batch.
    """

    def train_step(self, data: dict | tuple | list, optim_wrapper: OptimWrapper) -> dict[str, torch.Tensor]:
        """One step; returns losses and further records, float ``[]``, alike in all processes."""
        records = super().train_step(data, optim_wrapper)
        all_reduce_dict(records, op="mean")
        return records


class AnyDeviceRunner(Runner):
    """A :class:`mmengine.runner.Runner` whose processes may be on machines without a GPU."""

    def setup_env(self, env_cfg: dict) -> None:
        """MMEngine's, with gloo where there is no GPU: MMEngine itself would call CUDA."""
        keep_freed_memory()
        if self.launcher == "pytorch" and resolve_device(None).type != "cuda" and not is_distributed():
            torch.distributed.init_process_group("gloo")
        super().setup_env(env_cfg)


@RUNNERS.register_module()
class TrainRunner(AnyDeviceRunner):
    """A :class:`mmengine.runner.Runner` that refuses checkpoints which would execute code.

    MMEngine's own tries ``weights_only=True`` and then reads the file without it.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> TrainRunner:
        """Build from a config, loops and optimiser included.

        Raises:
            SetupError: for a config that lacks a part, or has one that cannot be built.
        """
        for key in ("model", "train_dataloader", "train_cfg", "optim_wrapper"):
            if cfg.get(key) is None:
                raise SetupError(f"config {cfg.filename} has no {key}: it is not a training's, or lacks a _base_")
        with named_setup_errors(cfg):
            set_folder(cfg)
            runner = super().from_cfg(cfg)
            runner.register_hook(dict(type="StepSeedHook"))
            # MMEngine would build these when training begins: in this order
            runner.train_loop  # noqa: B018  (the property builds it)
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            runner.val_loop  # noqa: B018
        return runner

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """MMEngine's; ``OVSEG_DEVICE`` says where it trains. On CPUs processes average their gradients through gloo.

        Processes look for parameters that had no part in a loss, unless the config's ``find_unused_parameters`` says
        no: a trained tower's last block has some in every method that leaves its attention out.
        """
        device = resolve_device(None)
        if not is_distributed():
            return model.to(device) if os.environ.get(DEVICE_VARIABLE) else super().wrap_model(None, model)
        if model_wrapper_cfg is None:
            unused = self.cfg.get("find_unused_parameters", True)
            model_wrapper_cfg = dict(type=AveragedRecords, broadcast_buffers=False, find_unused_parameters=unused)
        if device.type != "cuda":
            return MODEL_WRAPPERS.build(model_wrapper_cfg, default_args=dict(module=model.to(device)))
        return super().wrap_model(model_wrapper_cfg, model)

    def build_param_scheduler(self, scheduler: object) -> object:
        """MMEngine's; what does not fit is a :class:`SetupError`. It is built last: the learning rate must stand."""
        with named_setup_errors(self.cfg):
            return super().build_param_scheduler(scheduler)

    def load_checkpoint(self, filename: str, map_location: str = "cpu", *args, **kwargs) -> dict:
        """MMEngine's, for local files that hold nothing but tensors, numbers and MMEngine's own records.

        Raises:
            FileNotFoundError: if there is no such file.
            CheckpointError: if the file is damaged or cannot be read without executing what it holds.
        """
        from ovseg.weights import CheckpointError
        from ovseg.weights.reading import DAMAGE

        if not Path(filename).is_file():
            raise FileNotFoundError(f"checkpoint {filename} does not exist; check the path, download it first")
        try:
            with torch.serialization.safe_globals(get_torch_safe_globals()):
                torch.load(filename, map_location="meta", weights_only=True)
        except pickle.UnpicklingError as error:
            problem = (
                "holds more than tensors and MMEngine's records, it could execute code; refused, nothing was executed"
            )
            raise CheckpointError(filename, problem, "Give a checkpoint of tools/train.py or a state dict") from error
        except DAMAGE as error:
            raise CheckpointError(filename, "is damaged or cut off", "Copy or download it again") from error
        return super().load_checkpoint(filename, map_location, *args, **kwargs)


@RUNNERS.register_module()
class EvalRunner(AnyDeviceRunner):
    """A :class:`mmengine.runner.Runner` for models that are not trained.

    - the data set is looked for before the model is built, so that a missing one is told before weights are downloaded;
    - the model is not wrapped for distributed training, which would refuse a model without trainable parameters;
    - checkpoints are loaded by :func:`ovseg.weights.load_state_dict`, which never executes what is in them;
    - the log goes to the work directory's file; only warnings reach the terminal, where the progress bar is.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> EvalRunner:
        """Build from a config.

        Raises:
            DatasetNotFound: naming the data set and how to get it.
            SetupError: for a config that lacks a part, or has one that cannot be built.
        """
        for key, example in _NEEDED.items():
            if cfg.get(key) is None:
                raise SetupError(f"config {cfg.filename} has no {key}: {example}")
        with named_setup_errors(cfg):
            set_short_side(cfg)
            init_default_scope(cfg.get("default_scope", "ovseg"))
            check_config(cfg, DATASETS.build(cfg.test_dataloader.dataset))
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            if resolve_device(None).type == "cuda":
                cfg.test_dataloader.setdefault("pin_memory", True)  # copies to the GPU then overlap with its work
            workers = whole_number("num_workers", cfg.test_dataloader.get("num_workers", 0), least=0, example=2)
            cfg.test_dataloader.num_workers = min(workers, cores)  # torch warns of more
            runner = super().from_cfg(cfg)
            if getattr(runner.model, "vocabulary", True) is None:
                raise SetupError("model.vocabulary is missing: name the classes, e.g. dict(file='voc21', background=0)")
            runner.test_loop  # noqa: B018  (the property builds it: what does not fit is told before the first photo)
        return runner

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs) -> MMLogger:
        """MMEngine's logger with a quiet terminal."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(max(logging.WARNING, handler.level))
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """The model on this process' device; nothing is trained, so there are no gradients to synchronise.

        Encoders whose config names no precision get ``'auto'``.

        Raises:
            SetupError: if a precision cannot be had on the device, or means different things to the processes.
        """
        model = model.to(resolve_device(None) if os.environ.get(DEVICE_VARIABLE) else get_device())
        try:
            set_precision(model, "auto", unstated_only=True)
        except ValueError as error:
            raise SetupError(str(error)) from error
        settled = all_gather_object(describe_precision(model))
        if any(other != settled[0] for other in settled):
            raise SetupError(
                f"precision 'auto' became {settled} on the processes, whose machines differ: name one in the config, "
                f"or set {ENVIRONMENT_VARIABLE}"
            )
        return model

    def load_checkpoint(self, filename: str, map_location: str = "cpu", strict: bool = False, **kwargs) -> dict:
        """Load weights into the model, safely.

        Raises:
            FileNotFoundError: if there is no such file.
            CheckpointError: if the file cannot be read without executing what it holds, or holds NaN.
            SetupError: if none of its tensors, or tensors of other shapes, belong to the model.
        """
        from ovseg.weights import CheckpointError, load_state_dict

        if not Path(filename).is_file():
            raise FileNotFoundError(f"checkpoint {filename} does not exist; check the path")
        state = load_state_dict(filename)
        own = self.model.state_dict()
        wrong = [k for k, v in state.items() if k in own and own[k].shape != v.shape]
        if wrong or not set(state) & set(own):
            fault = (
                f"{wrong[0]} has another shape" if wrong else f"no tensor of the model, e.g. it holds {list(state)[:2]}"
            )
            raise SetupError(f"checkpoint {filename} does not fit the model of this config: {fault}")
        learned = {name for name, _ in self.model.named_parameters()}
        lost = [name for name, tensor in state.items() if name in learned and not all_finite(tensor)]
        if lost:
            problem = f"holds NaN or infinite values in {len(lost)} weights, e.g. {lost[0]}"
            raise CheckpointError(filename, problem, "A training that diverged leaves such a file: give an earlier one")
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        self._has_loaded = True
        self.logger.info(f"{filename}: {len(state)} tensors; not in it {missing[:5]}, not used {unexpected[:5]}")
        return {"state_dict": state}
