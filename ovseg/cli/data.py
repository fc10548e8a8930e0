"""``ovseg data``: data sets, from download to a number that can be trusted.

    ovseg data list                                                  # benchmarks, and which are here
    ovseg data prepare voc21 --archive VOCtrainval_11-May-2012.tar    # unpack, convert if need be, check
    ovseg data check cityscapes --picture cityscapes.jpg              # counts, pairs, labels, suspicions
    ovseg data check --images photos --masks masks --classes names.txt
    ovseg data check my_config.py --json
    ovseg data convert --images photos --masks coco.json --out converted  # any annotations to label PNGs
    ovseg data vocab diff voc21 my_classes.txt                       # two vocabularies, class by class

``tools/prepare_data.py`` is the door to ``ovseg data prepare``. Sources and layouts: docs/datasets.md.
"""

from __future__ import annotations

import argparse

from ovseg.cli import _data_check, _data_convert, _data_list, _data_prepare, _data_vocab


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's own commands."""
    parser = commands.add_parser(
        "data",
        help="list, prepare, check and convert data sets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (_data_list, _data_prepare, _data_check, _data_convert, _data_vocab):
        module.add_parser(inner)
