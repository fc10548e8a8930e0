# SED with early rejection: at every size only words that are among the 8 best at some cell go on.
_base_ = "./sed.py"
model = dict(decoder=dict(early_rejection=8))
