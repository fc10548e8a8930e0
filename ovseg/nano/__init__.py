"""nano: the small CLIP that ships with ovseg, the scenes it is trained on and the benchmark made of them."""

from ovseg.nano.dataset import SceneCaptions, stack_captions
from ovseg.nano.guide_pretrain import GuidePretrainer, ScenePhotos, SceneViews, stack_views
from ovseg.nano.guided_clip import GuidedClipPretrainer
from ovseg.nano.photo_pretrain import PhotoClipPretrainer
from ovseg.nano.photo_scenes import PhotoFeatures, stack_features
from ovseg.nano.pretrain import ClipPretrainer
from ovseg.nano.probe import ProbeHook
from ovseg.nano.sam_dataset import SceneMasks, stack_prompts
from ovseg.nano.sam_pretrain import SamPretrainer
from ovseg.nano.sam_probe import MaskProbeHook
from ovseg.nano.scene_labels import CaptionedScenes, SceneLabels, held_out_words, seen_words
from ovseg.nano.validation import ValidationScenes

__all__ = [
    "CaptionedScenes",
    "ClipPretrainer",
    "GuidePretrainer",
    "GuidedClipPretrainer",
    "MaskProbeHook",
    "PhotoClipPretrainer",
    "PhotoFeatures",
    "ProbeHook",
    "SamPretrainer",
    "SceneCaptions",
    "SceneLabels",
    "SceneMasks",
    "ScenePhotos",
    "SceneViews",
    "ValidationScenes",
    "held_out_words",
    "seen_words",
    "stack_captions",
    "stack_features",
    "stack_prompts",
    "stack_views",
]
