# SED, large, with early rejection.
_base_ = "./sed_large.py"
model = dict(decoder=dict(early_rejection=8))
