"""Every registered component says what it is: its settings, and no address."""

import copy
import functools
import inspect
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from ovseg import Segmenter
from ovseg.apis import available_methods
from ovseg.backbones import ClipBackbone
from ovseg.describing import describe, described, plain, remember
from ovseg.refiners import PAMR
from ovseg.registry import OWN, REFINERS
from ovseg.weights.errors import WeightsNotFound
from tests.small_guides import use_small_guides

PAIRS = ("talk2dino", "dinotxt", "vip", "radseg_plus")
"""Methods of two models that were trained together: nano is neither."""


def registered():
    for registry in OWN:
        registry.import_from_location()
        for name, component in registry.module_dict.items():
            if isinstance(component, type):
                yield pytest.param(registry, component, id=f"{registry.name}-{name}")


@pytest.mark.parametrize(("registry", "component"), registered())
def test_every_registered_component_shows_its_settings(registry, component):
    instance = component.__new__(component)
    signature = inspect.signature(component.__init__)
    kinds = inspect.Parameter
    given = {
        name: f"the {name} given"
        for name, parameter in list(signature.parameters.items())[1:]
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    remember(instance, signature, (), given)
    text = repr(instance)
    assert text.startswith(f"{component.__name__}(") and " at 0x" not in text and "\n" not in text
    for name, value in given.items():
        assert f"{name}={value!r}" in text


def required_arguments(component: type) -> list[str]:
    """Those of the constructor, and of the bases' constructors that it hands ``**kwargs`` on to."""
    names = []
    for base in component.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        kinds = {p.kind for p in parameters}
        names += [
            p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return names


@pytest.mark.parametrize(("registry", "component"), registered())
def test_every_component_that_needs_no_arguments_shows_them_when_built(registry, component, monkeypatch):
    required = required_arguments(component)
    if required or registry.name in ("dataset", "hook") or component.__module__ == "ovseg.regions.transformers":
        pytest.skip("needs arguments, files or a network")
    use_small_guides(monkeypatch)
    try:
        instance = registry.build(dict(type=component))
    except (ImportError, WeightsNotFound) as error:
        pytest.skip(str(error))
    text = repr(instance)
    assert text.startswith(f"{component.__name__}(") and " at 0x" not in text
    for name, parameter in list(inspect.signature(component.__init__).parameters.items())[1:]:
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            assert f"{name}=" in text
    assert repr(copy.deepcopy(instance)) == text


@pytest.mark.parametrize("method", [name for name in available_methods() if name not in PAIRS])  # see tests/backbones
def test_results_describe_every_part(method):
    model = Segmenter("nano", method).model
    facts = model.describe()
    assert " at 0x" not in json.dumps(facts) + repr(model)
    for part in (*model.refiners, *model.label_refiners):
        assert repr(part) in facts["refiners"]


def test_settings_are_those_of_now():
    head = Segmenter("nano", "sclip").model.head
    head.threshold = 0.25
    assert "threshold=0.25" in repr(head)
    backbone = ClipBackbone("nano")
    backbone.precision = "bf16"
    assert "precision='bf16'" in repr(backbone)


def test_a_users_component_is_described_too():
    @REFINERS.register_module()
    class Sharpen:
        def __init__(self, amount=2.0, curve=lambda x: x, *, inner=None):
            self.power = amount

    try:
        one, other = repr(Sharpen(3.0, inner=PAMR(1))), repr(Sharpen(3.0, curve=lambda x: x + 1))
    finally:
        REFINERS.module_dict.pop("Sharpen")
    assert one.startswith("Sharpen(amount=3.0, curve=tests.test_describing:")
    assert one.endswith("inner=PAMR(iterations=1, dilations=(8, 16)))") and " at 0x" not in one + other
    assert one != other, "two functions are two settings"


def test_arguments_that_a_base_class_takes_are_seen():
    @described
    class Base:
        def __init__(self, size, mode="a"):
            self.size = size

    @described
    class Special(Base):
        def __init__(self, *args, extra=1, **kwargs):
            super().__init__(*args, **kwargs)

    assert repr(Special(4, mode="b", extra=2)) == "Special(extra=2, mode='b', args=(4,), size=4)" or (
        repr(Special(4, mode="b", extra=2)) == "Special(args=(4,), extra=2, mode='b', size=4)"
    )
    with pytest.raises(TypeError, match="missing"):
        Special()


class Plain:
    def __init__(self):
        self.a, self.lock = 1, threading.Lock()


@pytest.mark.parametrize(
    "value",
    [
        Plain(),
        {"f": lambda x: x},
        functools.partial(sum, start=Plain()),
        [object(), object],
        nn.Linear(3, 4),
        torch.randn(40),
        np.zeros((3, 90)),
        {1, 2},
        Plain().__init__,
        np.array([Plain()], dtype=object),
    ],
)
def test_nothing_has_an_address(value):
    assert " at 0x" not in describe(value) and "\n" not in describe(value)
    json.dumps(plain(value))


def test_arrays_of_other_values_differ():
    assert describe(torch.zeros(20)) != describe(torch.ones(20)) != describe(torch.ones(21))
    assert describe(list(range(2000))) != describe(list(range(1999, -1, -1)))
    assert describe({f"a{i}" for i in range(2000)}) == describe({f"a{i}" for i in reversed(range(2000))})


def test_the_same_in_every_process():
    code = (
        "from ovseg.describing import describe; import functools\n"
        "print(describe([{'b', 'a', 'c'}, lambda x: x + 1, functools.partial(len, obj=3), object()]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": str(i), "PATH": ""}, capture_output=True, text=True
        ).stdout
        for i in range(2)
    }
    assert len(outputs) == 1 and "sha256" in outputs.pop()


def test_described_components_can_be_pickled():
    again = pickle.loads(pickle.dumps(PAMR(3)))
    assert repr(again) == repr(PAMR(3)) == "PAMR(iterations=3, dilations=(8, 16))"
