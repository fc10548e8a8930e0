"""The old place of windows, score maps and their stitch."""

from ovseg._moved import moved

__getattr__ = moved(
    __name__,
    {
        "RefinedScoreMap": "ovseg.scores",
        "ScoreMap": "ovseg.scores",
        "ScoreStitch": "ovseg.stitches",
        "SlidingWindows": "ovseg.windows",
        "WindowLayout": "ovseg.windows",
        "window_starts": "ovseg.windows",
    },
)
