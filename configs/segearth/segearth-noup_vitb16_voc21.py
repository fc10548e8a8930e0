# VOC21 with SegEarth-OV without its upsampler, OpenAI ViT-B/16. Not in the paper, whose photos are taken from above.
_base_ = ["./segearth_vitb16_voc21.py"]
model = dict(stitch=dict(_delete_=True, type="ClassTokenStitch", weight=-0.3))
