import numpy as np

from ovseg.nano import sprites as sprite_files
from ovseg.nano.compose import Scene, SpriteBook, jitter, paste


def _blank(height: int = 64, width: int = 96) -> Scene:
    return Scene(np.full((height, width, 3), 100, np.uint8), np.zeros((height, width), np.uint8))


def _square(edge: int = 32) -> np.ndarray:
    sprite = np.zeros((edge, edge, 4), np.uint8)
    sprite[...] = (200, 10, 30, 255)
    return sprite


def test_paste_covers_the_square_that_was_asked_for():
    scene = _blank()
    paste(scene, 4, _square(), centre=(29.5, 49.5), edge=20)
    rows, columns = np.nonzero(scene.mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 39, 40, 59)
    assert set(np.unique(scene.mask)) == {0, 5}
    assert (scene.image[25:35, 45:55] == (200, 10, 30)).all()
    assert (scene.image[:18] == 100).all()


def test_transparent_pixels_leave_image_and_mask_alone():
    scene = _blank()
    paste(scene, 0, np.zeros((32, 32, 4), np.uint8), centre=(30, 40), edge=30)
    assert (scene.image == 100).all() and not scene.mask.any()


def test_half_transparent_pixels_mix():
    sprite = np.zeros((32, 32, 4), np.uint8)
    sprite[...] = (0, 0, 128, 128)
    scene = _blank()
    paste(scene, 0, sprite, centre=(31.5, 47.5), edge=32)
    assert np.abs(scene.image[32, 48].astype(int) - (50, 50, 178)).max() <= 1


def test_outside_the_image_nothing_happens():
    scene = _blank()
    paste(scene, 0, _square(), centre=(-100, 400), edge=20)
    assert not scene.mask.any()


def test_flip_mirrors():
    sprite = _square()
    sprite[:, :16] = 0
    left, right = _blank(), _blank()
    paste(right, 0, sprite, centre=(31.5, 47.5), edge=32)
    paste(left, 0, sprite, centre=(31.5, 47.5), edge=32, flip=True)
    assert np.array_equal(right.mask, left.mask[:, ::-1])
    assert right.mask[32, 60] == 1 and right.mask[32, 35] == 0


def test_seen_counts_what_is_left_uncovered():
    scene = _blank(40, 40)
    paste(scene, 0, _square(), centre=(19.5, 19.5), edge=20)
    paste(scene, 1, _square(), centre=(19.5, 19.5), edge=20)
    assert scene.seen(2, 0.02).tolist() == [True, False, True]


def test_jitter_keeps_sprites_premultiplied(sprites):
    rng = np.random.default_rng(0)
    for sprite in sprites.values():
        changed = jitter(rng, sprite, 0.5)
        assert (changed[..., 3] == sprite[..., 3]).all()
        assert (changed[..., :3] <= changed[..., 3:]).all()


def test_book_holds_the_words_that_have_a_sprite(sprites):
    book = SpriteBook(sprites, sprite_files.concepts())
    assert {"dog", "apple", "clock"} <= set(book.words) and len(book.words) == 12
    rng = np.random.default_rng(0)
    assert [book.draw(rng, 0, edge).shape[0] for edge in (20, 50, 100)] == [32, 64, 128]
