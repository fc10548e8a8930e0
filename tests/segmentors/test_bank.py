"""Keys and values of a bank against whole maps; the command that builds one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ovseg.apis import method_config
from ovseg.cli import main
from ovseg.cli.bank import photos, reader
from ovseg.retrieval import MemoryBank
from tests.retrieval.test_bank import content


@pytest.fixture(scope="module")
def regions():
    return reader(method_config("corrclipv2", "nano"), "nano_guide", "cpu")


def test_keys_and_values_are_means_over_regions(regions):
    g = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 130, 112), generator=g, dtype=torch.uint8)
    original = torch.randint(0, 256, (3, 90, 80), generator=g, dtype=torch.uint8)
    ids = torch.arange(90)[:, None] // 50 * 2 + torch.arange(80) // 41  # 0 to 3
    photo = regions.segmentor.prepare(image, (90, 80), original, ids)
    keys, values = regions.read(photo)
    assert keys.shape == (3, 192) and values.shape == (3, 256)

    dense = F.interpolate(photo.dense[None], size=(90, 80), mode="bilinear", align_corners=False)[0]
    dense = F.normalize(dense, dim=0)
    encoder = regions.segmentor.encoder
    layout = encoder.layout(photo)
    features = torch.cat([encoder.encode(b).as_image() for _, b in encoder.batches([photo], [layout])])
    total, visits = torch.zeros(256, 130, 112), torch.zeros(130, 112)
    (h, w), (top, left) = layout.window, layout.offset
    places = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
    for part, (y, x) in zip(features, places, strict=True):
        up = F.interpolate(part[None], size=layout.padded, mode="bilinear", align_corners=False)[0]
        total[:, y : y + h, x : x + w] += up[:, top : top + h, left : left + w]
        visits[y : y + h, x : x + w] += 1
    full = F.interpolate((total / visits)[None], size=(90, 80), mode="bilinear", align_corners=False)[0]
    for row, region in enumerate((1, 2, 3)):
        inside = ids == region
        torch.testing.assert_close(keys[row], F.normalize(dense[:, inside].mean(1), dim=0), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(values[row], F.normalize(full[:, inside].mean(1), dim=0), atol=1e-4, rtol=1e-3)


def test_provenance_knows_weights_and_not_words(regions):
    facts = regions.provenance()
    assert facts["values"]["weights"] == "nano" and len(facts["guide_content"]) == 64
    assert facts["guide"]["weights"] == "nano_guide" and "vocabulary_hash" not in facts["values"]


def test_photos_come_in_the_order_of_their_names(tmp_path):
    for name in ("b.png", "a.jpg", "c.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    assert [p.name for p in photos(str(tmp_path / "*.*"))] == ["a.jpg", "b.png", "c.png"]
    (tmp_path / "some.txt").write_text("c.png\n\na.jpg\n")
    assert [p.name for p in photos(str(tmp_path / "some.txt"))] == ["a.jpg", "c.png"]
    with pytest.raises(FileNotFoundError):
        photos(str(tmp_path / "*.webp"))


def test_the_command_goes_on_after_a_kill_to_the_same_bytes(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for index in range(5):
        small = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(np.kron(small, np.ones((24, 24, 1), np.uint8))).save(tmp_path / f"{index}.png")
    Image.open(tmp_path / "1.png").save(tmp_path / "copy.png")
    (tmp_path / "9.png").write_bytes(b"no photo")
    config = "configs/nano/corrclipv2_nano_scenes.py"
    command = ["bank", config, "--images", str(tmp_path / "*.png"), "--value-guide", "nano_guide", "--short-side", "96"]
    assert main([*command, "--shard", "2", "--out", str(tmp_path / "whole")]) == 1
    assert "5 photos added, 1 could not be read" in "".join(capsys.readouterr())

    from ovseg.segmentors.bank import RegionReader

    read, left = RegionReader.read, [3]

    def killed(self, photo):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(self, photo)

    monkeypatch.setattr(RegionReader, "read", killed)
    again = [*command, "--shard", "2", "--out", str(tmp_path / "killed")]
    assert main(again) == 130
    monkeypatch.setattr(RegionReader, "read", read)
    assert main(again) == 1
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    memory = MemoryBank(tmp_path / "whole")
    assert len(memory) > 50 and memory.stores == {"main": 256}
    keys = torch.from_numpy(np.load(tmp_path / "whole" / "shard-00000" / "keys.npy")).float()
    assert memory.search(F.normalize(keys[:4], dim=-1), 1).rows[:, 0].tolist() == [0, 1, 2, 3]


def test_a_config_without_guide_of_the_photo_is_refused(tmp_path, capsys):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    command = ["bank", "configs/nano/corrclip_nano_scenes.py", "--images", str(tmp_path / "a.png"), "--out"]
    assert main([*command, str(tmp_path / "bank")]) == 2
    assert "PhotoGuide" in "".join(capsys.readouterr())
