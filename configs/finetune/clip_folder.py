# CLIP (NACLIP's patches) on your own photos by LoRA, from any weights that ovseg knows: photos in `images`, label maps
# in `masks`. It begins where the training-free method stands, so little data and time already help.
# python tools/train.py configs/finetune/clip_folder.py --cfg-options folder.root=DIR folder.classes=DIR/classes.txt
_base_ = "../_base_/trained/clip_finetune.py"
folder = dict(root="data/folder", classes="data/folder/classes.txt")
