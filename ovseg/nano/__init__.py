"""nano: the small CLIP that ships with ovseg, the scenes it is trained on and the benchmark made of them."""

from ovseg.nano.dataset import SceneCaptions, stack_captions
from ovseg.nano.pretrain import ClipPretrainer
from ovseg.nano.probe import ProbeHook

__all__ = ["ClipPretrainer", "ProbeHook", "SceneCaptions", "stack_captions"]
