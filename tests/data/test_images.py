"""The image decoder: images come out upright, 8-bit and RGB; everything else is an ImageError."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from fewclip.data import images
from fewclip.data.images import MAX_PIXELS, display_path, image_key, load_image, resize_center_crop
from fewclip.errors import ImageError, ParameterError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def photo(width: int = 40, height: int = 30) -> Image.Image:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one row of nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def rows(image: Image.Image) -> list[list[tuple[int, ...]]]:
    return [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]


# Formats and modes


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP", "MPO"])
def test_the_accepted_formats_are_read(file_format):
    image = photo()
    loaded = load_image(encode(image, file_format))
    assert (loaded.mode, loaded.size) == ("RGB", image.size)
    difference = np.abs(np.asarray(loaded).astype(int) - np.asarray(image))
    assert difference.mean() < (0.01 if file_format in {"PNG", "BMP", "TIFF", "PPM"} else 12)


@pytest.mark.skipif("avif" not in features.get_supported(), reason="this Pillow reads no AVIF")
def test_avif_is_read_where_pillow_reads_it():
    assert load_image(encode(photo(), "AVIF")).size == (40, 30)


@pytest.mark.parametrize("file_format", ["ICO", "TGA", "PCX", "EPS", "JPEG2000"])
def test_other_formats_are_refused(file_format):
    with pytest.raises(ImageError, match="expected a JPEG, PNG"):
        load_image(encode(photo(), file_format))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_value_not_clipped(file_format):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    loaded = np.asarray(load_image(encode(Image.fromarray(values), file_format)))
    np.testing.assert_array_equal(loaded[0, :, 0], [0, 0, 1, 1, 128, 255])


def test_all_16_bit_values_are_rounded_to_the_nearest():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    loaded = np.asarray(load_image(Image.fromarray(values)))[..., 0]
    np.testing.assert_array_equal(loaded, np.rint(values / 257).astype(np.uint8))


def test_32_bit_integers_count_as_16_bit_values():
    values = np.array([[0, 257, 65535]], dtype=np.int32)
    np.testing.assert_array_equal(np.asarray(load_image(Image.fromarray(values)))[0, :, 0], [0, 1, 255])
    with pytest.raises(ImageError, match="32-bit integers in 0–65536"):
        load_image(Image.fromarray(values + np.array([0, 0, 1], dtype=np.int32)))


@pytest.mark.parametrize(
    ("values", "expected"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 99.6, 255.0], [0, 100, 255])]
)
def test_floats_lie_in_0_to_1_or_in_0_to_255(values, expected):
    image = Image.fromarray(np.array([values], dtype=np.float32))
    np.testing.assert_array_equal(np.asarray(load_image(encode(image, "TIFF")))[0, :, 0], expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5, 300.0])
def test_other_floats_are_refused(bad):
    image = Image.fromarray(np.array([[0.0, bad]], dtype=np.float32))
    with pytest.raises(ImageError, match="finite float grey values"):
        load_image(encode(image, "TIFF"))


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(file_format):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixel = load_image(encode(image, file_format)).getpixel((4, 4))
    np.testing.assert_allclose(pixel, RED, atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "LAB"])
def test_other_modes_become_rgb(mode):
    white = Image.new("RGB", (3, 2), "white")
    image = Image.new("LAB", (3, 2), (255, 128, 128)) if mode == "LAB" else white.convert(mode)
    np.testing.assert_allclose(np.asarray(load_image(image)), np.asarray(white), atol=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "PA"])
def test_transparency_is_laid_on_white(mode):
    if mode == "PA":  # Pillow's own conversions to PA lose the alpha channel in some releases
        image = Image.new("PA", (2, 1))
        image.putpalette([0] * 768)
        image.putpixel((0, 0), (0, 255))
    else:
        base = Image.new("RGBA" if mode.startswith("R") else "LA", (2, 1))
        base.putpixel((0, 0), (0, 0, 0, 255) if base.mode == "RGBA" else (0, 255))
        image = base if mode == base.mode else base.convert(mode)
    assert rows(load_image(image)) == [[(0, 0, 0), WHITE]]


def test_half_transparent_red_is_pink():
    assert rows(load_image(Image.new("RGBA", (1, 1), (255, 0, 0, 128)))) == [[(255, 127, 127)]]


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_a_transparent_palette_entry_is_white(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert rows(load_image(encode(image, "PNG", transparency=transparency))) == [[WHITE, BLUE]]


@pytest.mark.parametrize(("mode", "transparency"), [("L", 0), ("RGB", (0, 0, 0))])
def test_a_transparent_colour_is_white(mode, transparency):
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), 255 if mode == "L" else WHITE)
    image.putpixel((0, 0), transparency)
    assert rows(load_image(encode(image, "PNG", transparency=transparency))) == [[WHITE, WHITE]]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_counts(file_format):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert load_image(content).getpixel((0, 0)) == RED


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_exif_orientation_is_applied_once(orientation, file_format):
    upright = Image.new("RGB", (32, 16), RED)
    upright.paste(GREEN, (16, 0, 32, 16))
    upright.paste(BLUE, (0, 8, 32, 16))
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(stored, file_format, exif=exif)
    loaded = load_image(content)
    assert loaded.size == (32, 16)
    for point in [(4, 2), (28, 2), (4, 13), (28, 13)]:
        np.testing.assert_allclose(loaded.getpixel(point), upright.getpixel(point), atol=60)
    with Image.open(io.BytesIO(content)) as opened:
        assert load_image(opened).tobytes() == loaded.tobytes()
    assert load_image(loaded).tobytes() == loaded.tobytes()
    assert not loaded.info


def test_damaged_exif_does_not_matter():
    content = encode(photo(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert load_image(content).size == (40, 30)


def test_a_pil_image_is_left_unchanged():
    image = photo()
    image.info["comment"] = "x"
    loaded = load_image(image)
    loaded.putpixel((0, 0), (1, 2, 3))
    assert image.tobytes() == photo().tobytes()
    assert image.info == {"comment": "x"}


# What is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"just some text, called .jpg", r"got a file that begins with b'just som'"),
        (b"\xff\xd8\xff", "damaged|intact|identified"),
        (encode(photo(), "JPEG")[:400], "expected an intact image"),
        (encode(photo(400, 300), "PNG")[:3000], "expected an intact image"),
        (encode(photo(400, 300), "GIF")[:3000], "expected an intact image"),
        (encode(photo(400, 300), "WEBP")[:1500], "expected"),
        (png_header(60_000, 60_000), r"at most 178,956,970 pixels, got 60000×60000 = 3,600,000,000"),
        (png_header(MAX_PIXELS + 1, 1), "Scale the image down"),
        (png_header(201, 1), r"one side at most 200 times the other, got 201×1 pixels"),
        (png_header(1, 20_000), "Cut out the part that matters"),
        (png_header(12_000, 9_000), r"at least 10,800 bytes for 12000×9000 pixels, got 66 bytes"),
        (png_header(0, 5), "expected"),
    ],
)
def test_unusable_files_are_named_with_a_reason(tmp_path, content, message):
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        load_image(file)
    assert str(caught.value).startswith(f"{display_path(file)}: expected")
    assert caught.value.fix


@pytest.mark.parametrize("size", [(12_000, 9_000), (MAX_PIXELS // 1_000, 1_000)])
def test_between_pillows_warning_and_our_limit_there_is_no_warning(size):
    with pytest.raises(ImageError, match="expected an intact image"):
        load_image(png_header(*size) + bytes(20_000))  # claims the size; what ends it is the lack of data


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "BMP"])
def test_a_large_image_is_read_without_a_warning(file_format):
    content = encode(Image.new("L", (9_500, 9_500)), file_format)
    assert load_image(content).size == (9_500, 9_500)


def test_a_bomb_is_refused_before_it_is_decoded():
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(ImageError):
        load_image(png_header(60_000, 60_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - started < 1
    assert peak < 2**20


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("from_file", [False, True])
def test_the_rest_of_a_truncated_file_is_taken_when_allowed(tmp_path, file_format, from_file):
    image = photo(400, 300)
    content = encode(image, file_format)
    content = content[: len(content) * 3 // 4]
    file = tmp_path / "cut"
    file.write_bytes(content)
    source = file if from_file else content
    with pytest.raises(ImageError, match="expected an intact image") as refused:
        load_image(source)
    assert "truncated" not in refused.value.got or "allow_truncated=True" in refused.value.fix
    loaded = load_image(source, allow_truncated=True)
    assert loaded.size == image.size
    top = (100, 200, 400, 300) if file_format == "BMP" else (0, 0, 300, 100)  # its rows go upwards
    difference = np.abs(np.asarray(loaded.crop(top)).astype(int) - np.asarray(image.crop(top)))
    assert difference.mean() < 12


def test_a_truncated_progressive_jpeg_shows_the_scans_it_has():
    image = photo(400, 300)
    content = encode(image, "JPEG", progressive=True)
    loaded = load_image(content[: len(content) // 2], allow_truncated=True)
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(image)).mean() < 25


def test_formats_that_are_compressed_as_a_whole_stay_refused():
    content = encode(photo(400, 300), "WEBP")
    with pytest.raises(ImageError):
        load_image(content[: len(content) // 2], allow_truncated=True)


def test_a_pil_image_without_pixels_is_refused():
    with pytest.raises(ImageError, match="at least one pixel"):
        load_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_heic_is_recognised_and_the_reader_named(monkeypatch, brand):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError, match=r"got a HEIC image\. Install .*pip install \"fewclip\[heif\]\""):
        load_image(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(64))


def test_heic_is_read_where_the_reader_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    assert load_image(encode(photo(64, 48), "HEIF")).size == (64, 48)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    for path, got in [(tmp_path / "x.jpg", "a folder"), (tmp_path / "none.jpg", "No such file")]:
        for function in (load_image, image_key):
            with pytest.raises(ImageError, match=got):
                function(path)
    with pytest.raises(ImageError, match="null byte"):
        load_image("a\0b.jpg")
    with pytest.raises(ImageError, match="got ndarray"):
        load_image(np.zeros((4, 4, 3), dtype=np.uint8))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in this file system")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="neither a file nor a folder"):
        load_image(tmp_path / "pipe.jpg")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_to_itself_is_refused_and_a_link_to_an_image_is_not(tmp_path):
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with pytest.raises(ImageError, match="symbolic link"):
        load_image(tmp_path / "loop.jpg")
    photo().save(tmp_path / "a.png")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.png")
    assert load_image(tmp_path / "link.jpg").size == (40, 30)


def test_an_unreadable_file_is_refused(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encode(photo(), "PNG"))
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user reads everything")
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(file)


def test_lack_of_memory_is_an_image_error(monkeypatch):
    def no_memory(_: object) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(images, "to_rgb", no_memory)
    with pytest.raises(ImageError, match="no memory left"):
        load_image(encode(photo(), "PNG"), name="big.png")


def test_the_name_given_is_the_name_in_the_error():
    with pytest.raises(ImageError, match=r"^upload 3: expected"):
        load_image(b"x", name="upload 3")


SEEDS = [
    encode(photo(), "JPEG"),
    encode(photo().convert("P"), "PNG", transparency=3),
    encode(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)), "PNG"),
    encode(photo(), "GIF"),
    encode(photo(), "TIFF"),
    encode(photo(), "BMP"),
    encode(photo(), "WEBP"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    st.integers(0, 10_000),
)
def test_damaged_bytes_give_an_image_or_an_image_error(content, changes, end):
    damaged = bytearray(content)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    damaged = damaged[: len(damaged) - end % (2 * len(damaged))] if end % 3 == 0 else damaged
    try:
        loaded = load_image(bytes(damaged))
    except ImageError:
        return
    assert loaded.mode == "RGB"
    assert min(loaded.size) >= 1


# Resize and crop


def reference(image: Image.Image, size: int, ratio: float, resample: Image.Resampling) -> Image.Image:
    short = int(size / ratio)
    if image.width <= image.height:
        target = (short, int(short * image.height / image.width))
    else:
        target = (int(short * image.width / image.height), short)
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    return image.resize(target, resample).crop((left, top, left + size, top + size))


@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(1, 64),
    st.sampled_from([1.0, 0.95, 0.9, 0.875, 0.5]),
    st.sampled_from([Image.Resampling.BICUBIC, Image.Resampling.BILINEAR]),
)
@settings(deadline=None)
def test_it_equals_plain_pillow_bit_for_bit(width, height, size, ratio, resample):
    image = photo(width, height)
    got = resize_center_crop(image, size=size, crop_ratio=ratio, resample=resample)
    assert got.size == (size, size)
    assert got.tobytes() == reference(image, size, ratio, resample).tobytes()


def test_the_shorter_side_is_rounded_down():
    image = photo(500, 297)
    expected = image.crop((120, 18, 380, 278))  # 260 / 0.875 = 297.1…: no resize at all
    assert resize_center_crop(image, size=260, crop_ratio=0.875).tobytes() == expected.tobytes()


@pytest.mark.parametrize("swap", [False, True])
def test_beyond_16_megapixels_only_the_crop_is_resized(monkeypatch, swap):
    image = photo(300, 60)
    if swap:
        image = image.transpose(Image.Transpose.ROTATE_90)
    exact = resize_center_crop(image, size=64, crop_ratio=0.9)
    monkeypatch.setattr(images, "EXACT_RESIZE_PIXELS", 0)
    boxed = resize_center_crop(image, size=64, crop_ratio=0.9)
    difference = np.abs(np.asarray(exact).astype(int) - np.asarray(boxed))
    assert difference.max() <= 4


def test_a_strip_costs_next_to_nothing():
    content = encode(Image.new("RGB", (100, 20_000), RED), "PNG")
    assert len(content) < 50_000

    def seconds() -> float:
        started = time.perf_counter()
        result = resize_center_crop(load_image(content), size=260, crop_ratio=0.875)
        assert result.getextrema() == ((255, 255), (0, 0), (0, 0))
        return time.perf_counter() - started

    assert min(seconds() for _ in range(3)) < 0.5


STRIP = """
import resource, sys
from fewclip.data.images import load_image, resize_center_crop
resize_center_crop(load_image(sys.argv[2]), size=260)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resize_center_crop(load_image(sys.argv[1]), size=260, crop_ratio=0.875)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_strip_needs_little_memory(tmp_path):
    import subprocess

    Image.new("RGB", (100, 20_000), RED).save(tmp_path / "strip.png")
    photo().save(tmp_path / "photo.png")
    command = [sys.executable, "-c", STRIP, str(tmp_path / "strip.png"), str(tmp_path / "photo.png")]
    kilobytes = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert kilobytes < 50 * 1024


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 8, "crop_ratio": 0}, {"size": 8, "crop_ratio": 1.1}]
)
def test_sizes_outside_their_range_are_refused(options):
    with pytest.raises(ParameterError):
        resize_center_crop(photo(), **options)


# Keys and names


def test_the_key_of_a_file_is_the_hash_of_its_bytes(tmp_path):
    content = encode(photo(), "PNG")
    (tmp_path / "a.png").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert (
        image_key(tmp_path / "a.png") == image_key(str(tmp_path / "a.png")) == image_key(content) == expected
    )


def test_the_key_of_a_pil_image_follows_what_would_be_encoded():
    image = photo()
    assert image_key(image) == image_key(image.copy())
    assert len(image_key(image)) == 64
    assert image_key(image) != image_key(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert image_key(Image.new("RGB", (2, 3))) != image_key(Image.new("RGB", (3, 2)))
    black, white = Image.new("P", (2, 2)), Image.new("P", (2, 2))
    white.putpalette([255] * 768)
    assert image_key(black) != image_key(white)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("new/a.jpg", "new/a.jpg"),
        ("./été/жук.jpg", "./été/жук.jpg"),
        ("a\udcff\udc80.jpg", r"a\xff\x80.jpg"),
        ("a\nb\x1b[31m.jpg", r"a\x0ab\x1b[31m.jpg"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        (Path("x") / "y", "x/y"),
    ],
)
def test_paths_are_displayed_safely(path, shown):
    assert display_path(path) == shown
    display_path(path).encode()


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are Unicode there")
def test_a_name_that_is_not_utf8_is_read_and_displayed(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    try:
        Path(os.fsdecode(path)).write_bytes(b"no image")
    except OSError:
        pytest.skip("this file system refuses the name")
    with pytest.raises(ImageError, match=r"caf\\xe9\.png: expected"):
        load_image(os.fsdecode(path))
    Path(os.fsdecode(path)).write_bytes(encode(photo(), "PNG"))
    assert load_image(os.fsdecode(path)).size == (40, 30)
