# Training of ZegCLIP on Context59 that knows the names of the unseen classes, not their masks: in the second half,
# pixels of no seen class are labelled with the likeliest unseen one. Nothing is taken from the seen classes' scores
# afterwards.
_base_ = "./zegclip_vitb16_context59_train.py"
model = dict(lower_seen=0.0)
custom_hooks = [dict(type="TrainingPlanHook"), dict(type="SelfTrainingHook", begin=20000)]
