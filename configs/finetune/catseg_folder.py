# CAT-Seg on your own photos, from the released weights (downloaded): photos in `images`, label maps in `masks`.
# python tools/train.py configs/finetune/catseg_folder.py --cfg-options folder.root=DIR folder.classes=DIR/classes.txt
_base_ = "../_base_/trained/catseg_finetune.py"
folder = dict(root="data/folder", classes="data/folder/classes.txt")
