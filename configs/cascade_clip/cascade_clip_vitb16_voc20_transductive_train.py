# Training of Cascade-CLIP on VOC20 that knows the names of the unseen classes, not their masks: in the second half,
# pixels of no seen class are labelled with the likeliest unseen one. Nothing is taken from the seen classes' scores
# afterwards.
_base_ = "./cascade_clip_vitb16_voc20_train.py"
model = dict(lower_seen=0.0)
custom_hooks = [dict(type="TrainingPlanHook"), dict(type="SelfTrainingHook", begin=10000)]
