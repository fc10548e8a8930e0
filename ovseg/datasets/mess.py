"""The 22 data sets of MESS (Blumenstiel et al., NeurIPS 2023): what is known of each, and where it comes from.

Names of classes, label values, layouts, splits and numbers of images are those of the benchmark's toolkit (MIT);
nothing of its code is here. docs/mess.md says for each data set what was confirmed and what is to be verified.
"""

from __future__ import annotations

from ovseg.datasets.benchmarks import Benchmark, Download

_NC = "non-commercial"


def _set(
    title: str,
    group: str,
    images: int,
    classes: int,
    licence: str,
    files: tuple[Download, ...],
    converter: str | None = None,
    verify: str = "",
) -> Benchmark:
    return Benchmark(f"MESS {title}", (images,), classes, files, converter, group=group, licence=licence, verify=verify)


_GENERAL, _EARTH, _MEDICAL = "general", "earth monitoring", "medical sciences"
_ENGINEERING, _BIOLOGY = "engineering", "agriculture and biology"
_PAXRAY = (
    Download(
        "paxray_dataset.zip", "https://constantinseibold.github.io/paxray/", "paxray_dataset", holds="paxray.json"
    ),
)
_PAXRAY_VERIFY = "that masks lie in the .npy files as [166, H, W], one plane per label"

MESS: dict[str, Benchmark] = {
    "mess_bdd100k": _set(
        "BDD100K",
        _GENERAL,
        1000,
        19,
        f"BDD100K's own, {_NC}",
        (
            Download("bdd100k_images_10k.zip", "https://bdd-data.berkeley.edu/", ".", holds="bdd100k/images/10k/val"),
            Download(
                "bdd100k_sem_seg_labels_trainval.zip",
                "https://bdd-data.berkeley.edu/",
                ".",
                holds="bdd100k/labels/sem_seg/masks/val",
            ),
        ),
        verify="that labels/sem_seg/masks holds train ids, as BDD's users say; MESS' toolkit reads colormaps instead",
    ),
    "mess_dark_zurich": _set(
        "Dark Zurich",
        _GENERAL,
        50,
        20,
        f"custom, {_NC}",
        (
            Download(
                "Dark_Zurich_val_anon.zip",
                "https://data.vision.ee.ethz.ch/csakarid/shared/GCMA_UIoU/Dark_Zurich_val_anon.zip",
                "Dark_Zurich",
                holds="gt/val/night/GOPR0356",
            ),
        ),
        "mess_dark_zurich",
        "that invGray marks invalid pixels with 255 in every file",
    ),
    "mess_mhp_v1": _set(
        "MHP v1",
        _GENERAL,
        980,
        19,
        _NC,
        (Download("LV-MHP-v1.zip", "https://lv-mhp.github.io/", ".", holds="LV-MHP-v1/test_list.txt"),),
        "mess_mhp_v1",
    ),
    "mess_foodseg103": _set(
        "FoodSeg103",
        _GENERAL,
        2125,
        104,
        "Apache-2.0",
        (
            Download(
                "FoodSeg103.zip",
                "https://research.larc.smu.edu.sg/downloads/datarepo/FoodSeg103.zip",
                ".",
                holds="FoodSeg103/Images/img_dir/test",
            ),
        ),
        verify="the number of photos (2,125 in MESS' toolkit; other sources say 2,135); the archive has a password",
    ),
    "mess_atlantis": _set(
        "ATLANTIS",
        _GENERAL,
        1295,
        56,
        "photos: Flickr's terms",
        (Download("atlantis.zip", "https://github.com/smhassanerfani/atlantis", ".", holds="atlantis/masks/test"),),
    ),
    "mess_dram": _set(
        "DRAM",
        _GENERAL,
        718,
        12,
        _NC,
        (
            Download(
                "DRAM_processed.zip",
                "https://faculty.runi.ac.il/arik/site/artseg/DRAM_processed.zip",
                ".",
                holds="DRAM_processed/labels",
            ),
        ),
        verify="the archive holds a RAR file, which is unpacked by hand (unrar) to DRAM_processed/{test,labels}",
    ),
    "mess_isaid": _set(
        "iSAID",
        _EARTH,
        4055,
        16,
        f"{_NC}; photos: Google Earth's terms",
        (Download("isaid.zip", "https://captain-whu.github.io/iSAID/dataset.html", ".", holds="isaid/raw_val/images"),),
        "mess_isaid",
        "two downloads: photos go to isaid/val/images, colour masks to isaid/raw_val/images",
    ),
    "mess_isprs_potsdam": _set(
        "ISPRS Potsdam",
        _EARTH,
        504,
        6,
        "undefined; notice of BSF Swissphoto",
        (
            Download(
                "Potsdam.zip",
                "https://www.isprs.org/education/benchmarks/UrbanSemLab/default.aspx",
                "ISPRS_Potsdam",
                holds="3_Ortho_IRRG",
            ),
        ),
        "mess_isprs_potsdam",
        "3_Ortho_IRRG.zip and 5_Labels_all.zip in the archive are unpacked by hand, the latter into Labels",
    ),
    "mess_worldfloods": _set(
        "WorldFloods",
        _EARTH,
        160,
        3,
        "CC BY-NC 4.0",
        (
            Download(
                "worldfloods_test.zip",
                "https://spaceml-org.github.io/ml4floods/content/worldfloods_dataset.html",
                "WorldFloods",
                holds="test/S2",
            ),
        ),
        "mess_worldfloods",
        "that labels in test/gt have one band of 0 to 3 (later releases have two)",
    ),
    "mess_floodnet": _set(
        "FloodNet",
        _EARTH,
        5571,
        10,
        "CDLA-Permissive-1.0",
        (
            Download(
                "FloodNet-Supervised_v1.0.zip",
                "https://github.com/BinaLab/FloodNet-Supervised_v1.0",
                ".",
                holds="FloodNet-Supervised_v1.0/test/test-org-img",
            ),
        ),
        "mess_floodnet",
    ),
    "mess_uavid": _set(
        "UAVid",
        _EARTH,
        840,
        8,
        "CC BY-NC-SA 4.0",
        (Download("uavid_v1.5_official_release_image.zip", "https://uavid.nl", "uavid_v1.5", holds="uavid_val"),),
        "mess_uavid",
    ),
    "mess_kvasir_instrument": _set(
        "Kvasir-Instrument",
        _MEDICAL,
        118,
        2,
        _NC,
        (
            Download(
                "kvasir-instrument.zip",
                "https://datasets.simula.no/downloads/kvasir-instrument.zip",
                ".",
                holds="kvasir-instrument/test.txt",
            ),
        ),
        "mess_kvasir_instrument",
        "images.tar.gz and masks.tar.gz in the archive are unpacked by hand, beside themselves",
    ),
    "mess_chase_db1": _set(
        "CHASE DB1",
        _MEDICAL,
        20,
        2,
        "CC BY 4.0",
        (
            Download(
                "CHASEDB1.zip",
                "https://staffnet.kingston.ac.uk/~ku15565/CHASE_DB1/assets/CHASEDB1.zip",
                "CHASEDB1",
                holds="Image_01L_1stHO.png",
            ),
        ),
    ),
    "mess_cryonuseg": _set(
        "CryoNuSeg",
        _MEDICAL,
        30,
        2,
        "CC BY-NC-SA 4.0",
        (
            Download(
                "archive.zip",
                "https://www.kaggle.com/datasets/ipateam/segmentation-of-nuclei-in-cryosectioned-he-images",
                "CryoNuSeg",
                holds="tissue images",
            ),
        ),
        verify="that the binary masks hold 0 and 255 only",
    ),
    **{
        f"mess_paxray_{part}": _set(
            f"PAXRay-4, {part}",
            _MEDICAL,
            180,
            2,
            "as stated on its page; citation requested",
            _PAXRAY,
            f"mess_paxray_{part}",
            _PAXRAY_VERIFY,
        )
        for part in ("lungs", "mediastinum", "bones", "diaphragm")
    },
    "mess_corrosion_cs": _set(
        "Corrosion CS",
        _ENGINEERING,
        44,
        4,
        "CC0",
        (
            Download(
                "Corrosion Condition State Classification.zip",
                "https://figshare.com/articles/dataset/Corrosion_Condition_State_Semantic_Segmentation_Dataset/16624663",
                ".",
                holds="Corrosion Condition State Classification/original/Test/masks",
            ),
        ),
        verify="that the masks are pictures of class indices (one channel)",
    ),
    "mess_deepcrack": _set(
        "DeepCrack",
        _ENGINEERING,
        237,
        2,
        "as stated on its page; citation requested",
        (Download("DeepCrack.zip", "https://github.com/yhlleo/DeepCrack", "DeepCrack", holds="test_lab"),),
        verify="that the masks hold 0 and 255 only",
    ),
    "mess_pst900": _set(
        "PST900",
        _ENGINEERING,
        288,
        5,
        "GPL-3.0",
        (
            Download(
                "PST900_RGBT_Dataset.zip",
                "https://github.com/ShreyasSkandanS/pst900_thermal_rgb",
                ".",
                holds="PST900_RGBT_Dataset/test/thermal",
            ),
        ),
    ),
    "mess_zerowaste": _set(
        "ZeroWaste-f",
        _ENGINEERING,
        929,
        5,
        "CC BY-NC 4.0",
        (
            Download(
                "zerowaste-f-final.zip",
                "https://zenodo.org/record/6412647/files/zerowaste-f-final.zip",
                "zerowaste-f",
                holds="splits_final_deblurred/test/sem_seg",
            ),
        ),
    ),
    "mess_suim": _set(
        "SUIM",
        _BIOLOGY,
        110,
        8,
        "unknown, or MIT",
        (Download("TEST.zip", "https://irvlab.cs.umn.edu/resources/suim-dataset", "SUIM", holds="TEST/masks"),),
        "mess_suim",
    ),
    "mess_cub_200": _set(
        "CUB-200",
        _BIOLOGY,
        5794,
        201,
        _NC,
        (
            Download(
                "CUB_200_2011.tgz",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                ".",
                holds="CUB_200_2011/images.txt",
            ),
            Download(
                "segmentations.tgz",
                "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz",
                "CUB_200_2011",
                holds="segmentations",
            ),
        ),
        "mess_cub_200",
    ),
    "mess_cwfid": _set(
        "CWFID",
        _BIOLOGY,
        21,
        3,
        _NC,
        (Download("dataset-master.zip", "https://github.com/cwfid/dataset", ".", holds="cwfid/annotations"),),
        "mess_cwfid",
        "that red is the crop and green the weed, as MESS' toolkit has it; unpack to a folder cwfid",
    ),
}
"""The data sets by the names of their configs; PAXRay-4 is four, as its masks overlap."""
