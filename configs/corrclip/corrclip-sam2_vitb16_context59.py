# Context59 with CorrCLIP v1 on masks of SAM 2, as in its published numbers (needs pip install 'ovseg[sam]').
_base_ = ["./corrclip_vitb16_context59.py"]
model = dict(regions=dict(source=dict(_delete_=True, type="Sam2Masks")))
