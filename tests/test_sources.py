"""Pictures from folders and data sets: read right, refused in one sentence, streamed in an order that depends on the step alone."""
import jax
import numpy as np
import pytest
from PIL import Image
from test_arguments import refuses

from unetdiff import pictures
from unetdiff.data import split
from unetdiff.engine.arguments import as_images
from unetdiff.engine.devices import mesh_for
from unetdiff.engine.sources import Pictures, collect, epoch_batches, read_ahead, read_pixels, steps_at_a_time


@pytest.fixture(scope="module")
def bytes_(digit_images, digit_labels):
    "Digits as bytes: five threes, then five fives."
    return [(255*digit_images[digit_labels == digit][:5]).astype(np.uint8) for digit in (3, 5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bytes_):
    "Three threes and three fives as files, in sub-folders; one five is larger, and in colour."
    path = tmp_path_factory.mktemp("pictures")
    for name, digits in zip(("three", "five"), bytes_):
        (path/name).mkdir()
        for i, x in enumerate(digits[:3]):
            picture = Image.fromarray(x[..., 0])
            if (name, i) == ("five", 1): picture = picture.resize((20, 24)).convert("RGB")
            picture.save(path/name/f"{i}.png")
    return path


@pytest.fixture
def found(folder): return pictures(folder, size=8, channels=1)


class Source:
    "A data source as Grain knows it: a length, and elements of some form."
    def __init__(self, x, form): self.x, self.form = x, form
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.form(self.x[i], i % 2)


def test_sizes_that_differ_are_refused(folder):
    refuses(lambda: as_images(pictures(folder)), "images: got picture 1 of shape (24, 20, 3)")


def test_folder(found, bytes_):
    threes, fives = bytes_
    assert repr(found) == "Pictures(6, 8, 8, 1)" and found.shape == (6, 8, 8, 1)
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1] and found.names == ["five", "three"]
    assert found.given.tolist() == ["five"]*3 + ["three"]*3
    assert found[0].dtype == np.uint8
    np.testing.assert_array_equal(as_images(found)[3:], as_images(threes[:3]))
    np.testing.assert_array_equal(found[0], fives[0])


def test_some_of_them(found):
    part = found[np.array([4, 0])]
    assert part.shape == (2, 8, 8, 1) and part.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(part[0], found[4])
    assert found[:2].labels.tolist() == [0, 0]


def test_pictures_can_be_split(found):
    train, test, train_labels, test_labels = split(found, found.labels, .5)
    assert type(train) is Pictures and len(train) == 3
    assert sorted(test_labels.tolist()) in ([0, 0, 1], [0, 1, 1]), f"both classes should be held back: {test_labels}"
    np.testing.assert_array_equal(train.labels, train_labels)


def test_size_and_channels(folder):
    resized = pictures(folder, size=(6, 4), channels=3)
    assert resized.shape == np.asarray(resized).shape == (6, 6, 4, 3)


forms = {
    "pair": lambda x, y: (x, y),
    "dictionary with a Pillow image": lambda x, y: dict(image=Image.fromarray(x[..., 0]), label=y),
    "other keys, no channels": lambda x, y: {"y": y, "x": x[..., 0]},
    "floats": lambda x, y: (x/np.float32(255), np.int64(y)),
    "numbers that are no labels": lambda x, y: dict(id=7, width=8, label=y, size=[8, 8], image=x),
    "text before the picture": lambda x, y: dict(caption="a digit", file="none.txt", image=x, target=y),
    "channels first": lambda x, y: (np.repeat(x, 3, -1).transpose(2, 0, 1), y),
}

@pytest.mark.parametrize("form", forms)
def test_elements_of_many_forms(bytes_, form):
    p = pictures(Source(bytes_[0], forms[form]))
    assert p.labels.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_allclose(as_images(p), np.broadcast_to(as_images(bytes_[0]), p.shape), atol=1e-6)


def test_identifiers_are_no_labels(bytes_):
    assert pictures(Source(bytes_[0], lambda x, y: dict(id=y, width=8, image=x))).labels is None


@pytest.fixture(scope="module")
def files(folder): return sorted(folder.rglob("?.png"))


@pytest.mark.parametrize("form", [str, lambda f: f, lambda f: (f, f.parent.name), lambda f: dict(caption="a digit", label=f.parent.name, path=str(f)), Image.open],
                         ids=["names", "paths", "pairs", "dictionaries", "images"])
def test_lists_go_straight_to_training(files, form):
    elements = [form(f) for f in files if f.parent.name == "three" or f.stem != "1"] # without the larger one
    images, labels, known = collect(elements, None, None)
    assert images.shape == (5, 8, 8, 1) and images.dtype == np.float32
    if labels is not None: assert labels.tolist() == [0, 0, 1, 1, 1] and known["names"] == ["five", "three"]


def test_channels_first():
    x = np.random.default_rng(0).random((4, 3, 8, 6), np.float32)
    np.testing.assert_array_equal(as_images(x), x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(as_images(x[:, :1]), x[:, :1].transpose(0, 2, 3, 1))
    for shape in ((3, 8, 6), (4, 3, 8, 3), (4, 3, 3, 1)): assert as_images(np.zeros(shape)).shape[:3] == shape[:3], "these are channels last already"


def test_labels_missing_or_given(bytes_):
    assert pictures(Source(bytes_[0], lambda x, y: x)).labels is None
    given = pictures(Source(bytes_[0], forms["pair"]), labels=[1, 1, 0, 2, 0])
    assert given.labels.tolist() == [1, 1, 0, 2, 0]


def test_columns_of_a_hugging_face_data_set(bytes_):
    class Kind: names = ["even", "odd"]
    class Table(Source):
        features = dict(image=object(), kind=Kind())
        def __getitem__(self, i):
            if i == "kind": return np.arange(5) % 2
            return dict(image=Image.fromarray(self.x[i][..., 0]), kind=i % 2)
    p = pictures(Table(bytes_[0], None))
    assert p.labels.tolist() == [0, 1, 0, 1, 0] and p.names == ["even", "odd"]


def test_folders_that_are_refused(tmp_path):
    refuses(lambda: pictures(tmp_path/"none"), "which is no folder")
    refuses(lambda: pictures(tmp_path), "where no pictures are")
    (tmp_path/"a.png").write_bytes(b"no picture")
    refuses(lambda: pictures(tmp_path), "a.png', which cannot be read")
    (tmp_path/"in").mkdir()
    Image.new("L", (4, 4)).save(tmp_path/"in"/"b.png")
    refuses(lambda: pictures(tmp_path), "beside its sub-folders")


def tree(root, *names):
    "A small picture under each name."
    for name in names:
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root/name, "PNG")


def test_class_folders_are_counted_as_numbers(tmp_path):
    tree(tmp_path, *(f"{i}/a.png" for i in range(11)))
    p = pictures(tmp_path)
    assert p.names == [*range(11)] and [p.source[i].parent.name for i in np.argsort(p.labels)] == [*map(str, range(11))]


def test_class_folders_that_are_links(tmp_path):
    tree(tmp_path, "there/cats/a.png", "here/dogs/b.png")
    (tmp_path/"here"/"cats").symlink_to(tmp_path/"there"/"cats")
    (tmp_path/"here"/"dogs"/"again").symlink_to(tmp_path/"here") # a circle
    p = pictures(tmp_path/"here")
    assert p.given.tolist() == ["cats", "dogs"]


def test_parts_of_a_data_set_are_no_classes(tmp_path):
    tree(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/cat/a.png")
    refuses(lambda: pictures(tmp_path), "whose sub-folders (test, train) are parts of a data set, not classes")
    assert pictures(tmp_path/"train").names == ["cat", "dog"]


def test_files_of_other_kinds_are_left_alone(tmp_path):
    tree(tmp_path, "a.png", ".hidden.png", ".cache/b.png")
    for name in ("Thumbs.db", "notes.txt", "labels.csv", "film.pdf"): (tmp_path/name).write_bytes(b"no picture")
    assert len(pictures(tmp_path)) == 1


@pytest.mark.parametrize("mode, ending", [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("RGBA", "webp"), ("1", "png")])
def test_what_is_transparent_shows_the_background(tmp_path, mode, ending):
    "A black square whose right half is transparent."
    file = tmp_path/f"a.{ending}"
    if mode in ("RGBA", "LA"):
        picture = Image.new(mode, (8, 4), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
        picture.paste((0, 0, 0, 0) if mode == "RGBA" else (0, 0), (4, 0, 8, 4))
        picture.save(file, lossless=True) if ending == "webp" else picture.save(file)
    else:
        picture = Image.new(mode, (8, 4), 0)
        picture.paste(1, (4, 0, 8, 4))
        if mode == "P": picture.putpalette([0, 0, 0, 9, 9, 9])
        picture.save(file, transparency=1)
    for background, want in (("white", 255), ("#ff0000", (255, 0, 0))):
        pixels = read_pixels(file, channels=3, background=background)
        assert (pixels[:, :4] == 0).all(), "what is opaque stays"
        assert (pixels[:, 4:] == want).all(), f"{pixels[0, -1]} on {background}"


def test_no_fringe_where_the_transparent_is_scaled(tmp_path):
    "White, and transparent with black behind it, of which scaling must not mix anything in."
    picture = Image.new("RGBA", (8, 8), (255, 255, 255, 255))
    picture.paste((0, 0, 0, 0), (3, 3, 8, 8))
    picture.save(tmp_path/"a.png")
    assert pictures(tmp_path, size=3)[0].min() == 255


def test_background_that_is_no_colour(folder): refuses(lambda: pictures(folder, background="whitish"), "background: got 'whitish'")


def test_animations_show_their_first_picture(tmp_path):
    first, *others = [Image.new("L", (4, 4), v) for v in (10, 90, 200)]
    first.save(tmp_path/"a.gif", save_all=True, append_images=others)
    assert np.unique(pictures(tmp_path)[0]) == [10]


def test_pictures_that_are_too_large(tmp_path, monkeypatch):
    tree(tmp_path, "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    refuses(lambda: pictures(tmp_path), "a.png', which cannot be read (Image size (16 pixels) exceeds limit")


def test_modes_of_files(tmp_path):
    (tmp_path/"in").mkdir()
    file = tmp_path/"in"/"b.png"
    Image.new("L", (4, 4)).save(file)
    assert pictures(tmp_path).labels is None, "one sub-folder alone is no class"
    Image.new("RGBA", (4, 4)).save(file)
    assert pictures(tmp_path).shape == (1, 4, 4, 3)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(file)
    refuses(lambda: pictures(tmp_path), "b.png' of mode 'I;16'")


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "webp", "ico", "jp2", "tga"])
def test_damaged_files_are_refused_in_one_sentence_with_their_name(tmp_path, ending):
    "A file that can be opened, but not be read to its end."
    for name in "ab": Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path/f"{name}.{ending}")
    whole = (tmp_path/f"b.{ending}").read_bytes()
    found = pictures(tmp_path, size=8)
    for part in (0, 5, len(whole)//3):
        (tmp_path/f"b.{ending}").write_bytes(whole[:part])
        assert found[0].shape == (8, 8, 3)
        with pytest.raises(ValueError, match=rf"^images: got '.*b\.{ending}', which cannot be read \(.+\), but takes pictures that Pillow can read$") as error: found[1]
        assert "\n" not in str(error.value)


def some_damaged(folder, n=6, damaged=(0, 3)):
    "Pictures in a folder, of which some break off."
    for i in range(n): Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(folder/f"{i}.png")
    for i in damaged: (folder/f"{i}.png").write_bytes((folder/f"{i}.png").read_bytes()[:900])


def test_damaged_pictures_are_left_out_on_request_and_counted(tmp_path):
    some_damaged(tmp_path)
    refuses(lambda: pictures(tmp_path), "0.png', which cannot be read")
    with pytest.warns(UserWarning, match=r"images: 2 of 6 pictures are left out: .*0\.png.*3\.png"): found = pictures(tmp_path, skip_damaged=True, labels=[0, 1, 0, 1, 1, 0])
    assert found.shape == (4, 40, 40, 3) and found.labels.tolist() == [1, 0, 1, 0]
    assert as_images(found).shape == (4, 40, 40, 3)


def test_only_damaged_pictures_are_refused(tmp_path):
    some_damaged(tmp_path, 2, (0, 1))
    refuses(lambda: pictures(tmp_path, skip_damaged=True), "2 pictures of which none can be read")


def test_files_that_are_no_pictures_are_found_before_a_stream_starts(tmp_path):
    some_damaged(tmp_path, 30, ())
    (tmp_path/"29.png").write_bytes(b"no picture")
    refuses(lambda: collect(tmp_path, None, True), "29.png', which cannot be read")


def test_a_source_is_not_read_through_before_a_stream_starts(bytes_):
    read = []
    found = pictures(Source(bytes_[0], lambda x, y: read.append(y) or x))
    read.clear()
    collect(found, None, True)
    assert read == [], "a source may take long for each element"


@pytest.mark.parametrize("bad", [0, "8", (8,), (8, 8, 1), 1.5], ids=repr)
def test_sizes_that_are_refused(folder, bad):
    refuses(lambda: pictures(folder, size=bad), f"size: got {bad!r}")


@pytest.mark.parametrize("bad", [2, "grey", 0])
def test_channels_that_are_refused(folder, bad):
    refuses(lambda: pictures(folder, channels=bad), "channels: got")


@pytest.mark.parametrize("bad", [3, None, iter([]), []], ids=["number", "None", "iterator", "empty"])
def test_sources_that_are_refused(bad):
    refuses(lambda: pictures(bad), "images: got a")


def test_elements_that_are_refused(bytes_):
    refuses(lambda: pictures(Source(bytes_[0], lambda x, y: "x")), "cannot be read")
    refuses(lambda: pictures(Source(bytes_[0], lambda x, y: 3)), "a source of int")
    refuses(lambda: pictures((bytes_[0], bytes_[1])), "labels of an array are the argument `labels`")
    refuses(lambda: pictures(Source(bytes_[0], lambda x, y: x/255.), size=4), "size: got (4, 4) for a picture")


def test_collect_reads_or_streams(found):
    images, labels, known = collect(found, None, None)
    assert isinstance(images, np.ndarray) and images.dtype == np.float32 and labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert known == dict(classes=2, label_counts=[3, 3], names=["five", "three"])
    streamed, _, known = collect(found, None, True)
    assert streamed is found and known["streamed"]
    assert known["label_counts"] == [3, 3]


@pytest.fixture(scope="module")
def every(digit_images): return digit_images[30:40]


@pytest.fixture(scope="module")
def dealt(every): return epoch_batches(pictures(every), np.arange(10), 4, 1)


def test_batch_follows_from_its_number(every, dealt):
    for i in (0, 3, 7, 2):
        x, y = dealt[i]
        np.testing.assert_array_equal(x, every[y])
        np.testing.assert_array_equal(y, dealt[i][1], err_msg="the same again, in any order")


def test_each_epoch_has_its_own_order(dealt):
    epochs = np.concatenate([dealt[i][1] for i in range(5)]).reshape(2, 10)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(10), (2, 1)))
    assert (epochs[0] != epochs[1]).any()


def test_stream_starts_anywhere(dealt):
    several = read_ahead(dealt, 3, 2, mesh_for(4))
    x, y = next(several)
    assert x.shape == (2, 4, 8, 8, 1) and isinstance(x, jax.Array)
    np.testing.assert_array_equal(y, [dealt[3][1], dealt[4][1]])
    np.testing.assert_array_equal(next(several)[1], [dealt[5][1], dealt[6][1]])


def test_a_single_picture_can_be_streamed(every):
    x, y = next(read_ahead(epoch_batches(pictures(every[:1]), None, 1, 0), 5, 3, mesh_for(1)))
    assert y is None
    np.testing.assert_array_equal(x, np.broadcast_to(every[0], (3, 1, 8, 8, 1)))


def test_steps_at_a_time(every):
    size = every[0].nbytes
    assert [steps_at_a_time(size, *how) for how in ((2**18, 100), (2**13, 100), (4, 7))] == [1, 25, 7]
