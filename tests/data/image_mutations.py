"""Damaged image files by recipe: ``mutant(kind, number)`` gives the same bytes on every machine.

Run as a program it feeds every mutant to the decoder and prints what happened, as JSON.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, features

PER_KIND = 190


def _photo(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def _saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photo with words about it"
    return exif.tobytes()


@cache
def files() -> dict[str, bytes]:
    """The intact files, by name; the part before the first dash is the format."""
    rgb, profile, exif = _photo(), bytes(range(256)) * 2, _exif()
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    deep = Image.fromarray((np.arange(1200, dtype=np.uint16) * 50).reshape(30, 40))
    made = {
        "jpeg": _saved(rgb, "JPEG"),
        "jpeg-progressive": _saved(rgb, "JPEG", progressive=True),
        "jpeg-metadata": _saved(rgb, "JPEG", exif=exif, icc_profile=profile),
        "jpeg-cmyk": _saved(_photo("CMYK"), "JPEG"),
        "mpo-two": _saved(rgb, "MPO", **frames),
        "png": _saved(rgb, "PNG"),
        "png-alpha": _saved(_photo("RGBA"), "PNG"),
        "png-palette": _saved(_photo("P"), "PNG", transparency=bytes(range(0, 250, 2))),
        "png-16": _saved(deep, "PNG"),
        "png-metadata": _saved(rgb, "PNG", exif=exif, icc_profile=profile),
        "png-moving": _saved(rgb, "PNG", **frames),
        "gif": _saved(rgb, "GIF"),
        "gif-moving": _saved(rgb, "GIF", **frames),
        "webp": _saved(rgb, "WEBP"),
        "webp-lossless": _saved(_photo("RGBA"), "WEBP", lossless=True),
        "webp-metadata": _saved(rgb, "WEBP", exif=exif, icc_profile=profile),
        "webp-moving": _saved(rgb, "WEBP", **frames),
        "tiff": _saved(rgb, "TIFF"),
        "tiff-lzw": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-16": _saved(deep, "TIFF"),
        "tiff-float": _saved(_photo("F").point(lambda v: v / 255), "TIFF"),
        "bmp": _saved(rgb, "BMP"),
        "bmp-palette": _saved(_photo("P"), "BMP"),
        "ppm": _saved(rgb, "PPM"),
    }
    if "avif" in features.get_supported():
        made["avif"] = _saved(rgb, "AVIF")
    return made


# ---- any file ----


def _cut(data: bytearray, draw: random.Random) -> bytearray:
    return data[: draw.randrange(32, len(data) - 2)]


def _stub(data: bytearray, draw: random.Random) -> bytearray:
    return data[: draw.randrange(0, 32)]


def _one_bit(data: bytearray, draw: random.Random) -> bytearray:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def _many_bits(data: bytearray, draw: random.Random) -> bytearray:
    for _ in range(2 + len(data) // 50):
        _one_bit(data, draw)
    return data


def _head_bits(data: bytearray, draw: random.Random) -> bytearray:
    for _ in range(3):
        data[draw.randrange(4, min(64, len(data)))] ^= 1 << draw.randrange(8)
    return data


def _slice(data: bytearray, draw: random.Random) -> slice:
    start = draw.randrange(16, len(data) - 8)
    return slice(start, min(len(data), start + draw.randrange(1, 64)))


def _filled(value: int | None) -> Callable[[bytearray, random.Random], bytearray]:
    def change(data: bytearray, draw: random.Random) -> bytearray:
        where = _slice(data, draw)
        size = len(data[where])
        data[where] = bytes([value]) * size if value is not None else draw.randbytes(size)
        return data

    return change


def _lost(data: bytearray, draw: random.Random) -> bytearray:
    del data[_slice(data, draw)]
    return data


def _twice(data: bytearray, draw: random.Random) -> bytearray:
    where = _slice(data, draw)
    data[where.stop : where.stop] = data[where]
    return data


def _exchanged(data: bytearray, draw: random.Random) -> bytearray:
    first, second = sorted((_slice(data, draw), _slice(data, draw)), key=lambda where: where.start)
    stop = min(first.stop, second.start)
    a, b = data[first.start : stop], data[second]
    return data[: first.start] + b + data[stop : second.start] + a + data[second.stop :]


def _tail(data: bytearray, draw: random.Random) -> bytearray:
    return data + draw.randbytes(draw.randrange(1, 300))


def _foreign_head(data: bytearray, draw: random.Random) -> bytearray:
    heads = [b"%PDF-1.7\n", b"PK\3\4\x14\0\0\0", b"<svg xmlns", b"\x7fELF\2\1\1\0", b"GIF88a\0\0", b"\0" * 8]
    return bytearray(draw.choice(heads)) + data[8:]


def _two_halves(data: bytearray, draw: random.Random) -> bytearray:
    other = draw.choice(list(files().values()))
    return data[: draw.randrange(32, len(data))] + other[draw.randrange(len(other)) :]


# ---- what a header says ----


def _size_fields(data: bytearray) -> list[tuple[int, int, Literal["little", "big"], int]]:
    """Where width and height stand, in turn: position, bytes, order, and what is taken off before."""
    if data[:4] == b"\x89PNG":
        return [(16, 4, "big", 0), (20, 4, "big", 0)]
    if data[:2] == b"\xff\xd8":
        frame = re.search(rb"\xff[\xc0-\xc2]\x00.\x08", bytes(data), re.DOTALL)
        assert frame
        return [(frame.start() + 7, 2, "big", 0), (frame.start() + 5, 2, "big", 0)]
    if data[:3] == b"GIF":
        palette = 3 * 2 ** (1 + (data[10] & 7)) if data[10] & 128 else 0
        frame_at = data.index(b",", 13 + palette)
        return [(at, 2, "little", 0) for at in (6, 8, frame_at + 5, frame_at + 7)]
    if data[:2] == b"BM":
        return [(18, 4, "little", 0), (22, 4, "little", 0)]
    if data[:2] == b"II":
        (first,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, first)
        entries = [first + 2 + 12 * i for i in range(count)]
        tags = {struct.unpack_from("<H", data, at)[0]: at for at in entries}
        return [(tags[t] + 8, 4 if data[tags[t] + 2] == 4 else 2, "little", 0) for t in (256, 257)]
    if data[12:16] == b"VP8 ":
        return [(26, 2, "little", 0), (28, 2, "little", 0)]
    if data[12:16] == b"VP8X":
        return [(24, 3, "little", 1), (27, 3, "little", 1)]
    box = data.index(b"ispe")
    return [(box + 8, 4, "big", 0), (box + 12, 4, "big", 0)]


def _put(data: bytearray, values: tuple[int, int]) -> bytearray:
    for i, (at, size, order, less) in enumerate(_size_fields(data)):
        value = min(max(values[i % 2] - less, 0), 256**size - 1)
        data[at : at + size] = value.to_bytes(size, order)
    return _checked(data)


def _huge(data: bytearray, draw: random.Random) -> bytearray:
    sizes = [(65_000, 65_000), (2**31 - 1, 2**31 - 1), (16_383, 16_383), (13_000, 13_000), (9_000, 3_000)]
    return _put(data, draw.choice(sizes))


def _empty(data: bytearray, draw: random.Random) -> bytearray:
    return _put(data, draw.choice([(0, 0), (0, 30), (40, 0)]))


def _other_size(data: bytearray, draw: random.Random) -> bytearray:
    return _put(data, (draw.randrange(1, 400), draw.randrange(1, 400)))


def _narrow(data: bytearray, draw: random.Random) -> bytearray:
    return _put(data, draw.choice([(60_000, 1), (1, 60_000), (50_000, 200), (201, 1)]))


# ---- chunks of PNG, segments of JPEG, pieces of WebP ----


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return chunks


def _png(chunks: list[tuple[bytes, bytes]]) -> bytearray:
    out = bytearray(b"\x89PNG\r\n\x1a\n")
    for name, body in chunks:
        out += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return out


def _checked(data: bytearray) -> bytearray:
    """With the checksums that belong to it, so that the decoder does not stop at them."""
    return _png(_png_chunks(bytes(data))) if data[:4] == b"\x89PNG" else data


def _parts(data: bytearray) -> tuple[list[bytes], Callable[[list[bytes]], bytearray]]:
    """The file's parts between its head and its pixels, and how to join them."""
    if data[:4] == b"\x89PNG":
        chunks = _png_chunks(bytes(data))
        packed = [name + body for name, body in chunks]
        return packed, lambda parts: _png([(part[:4], part[4:]) for part in parts])
    if data[:2] == b"\xff\xd8":
        at, parts = 2, []
        while data[at + 1] != 0xDA:
            size = 2 + struct.unpack_from(">H", data, at + 2)[0]
            parts.append(bytes(data[at : at + size]))
            at += size
        rest = bytes(data[at:])
        return parts, lambda parts: bytearray(b"\xff\xd8" + b"".join(parts) + rest)
    at, parts = 12, []
    while at < len(data):
        size = 8 + struct.unpack_from("<I", data, at + 4)[0]
        parts.append(bytes(data[at : at + size + size % 2]))
        at += size + size % 2

    def riff(parts: list[bytes]) -> bytearray:
        body = b"WEBP" + b"".join(parts)
        return bytearray(b"RIFF" + struct.pack("<I", len(body)) + body)

    return parts, riff


def _parts_exchanged(data: bytearray, draw: random.Random) -> bytearray:
    parts, join = _parts(data)
    i, j = draw.sample(range(len(parts)), 2) if len(parts) > 1 else (0, 0)
    parts[i], parts[j] = parts[j], parts[i]
    return join(parts)


def _part_lost(data: bytearray, draw: random.Random) -> bytearray:
    parts, join = _parts(data)
    del parts[draw.randrange(len(parts))]
    return join(parts)


def _part_length(data: bytearray, draw: random.Random) -> bytearray:
    """A part that claims another length than it has."""
    parts, _ = _parts(data)
    at = bytes(data).index(draw.choice(parts)[:8] if data[:4] != b"\x89PNG" else draw.choice(parts))
    where, kind = {0x89: (at - 4, ">I"), 0xFF: (at + 2, ">H"), 0x52: (at + 4, "<I")}[data[0]]
    struct.pack_into(kind, data, where, draw.choice([0, 1, 7, 1_000, 65_535]))
    return data


def _metadata(data: bytearray, draw: random.Random) -> bytearray:
    """EXIF or ICC profile overwritten, its frame intact."""
    parts, join = _parts(data)
    heads = {b"eXIf": 4, b"iCCP": 20, b"EXIF": 8, b"ICCP": 8}
    found = []
    for i, part in enumerate(parts):
        keep = heads.get(part[:4], 10 if part[:2] in (b"\xff\xe1", b"\xff\xe2") else None)
        found += [] if keep is None else [(i, keep)]
    i, keep = draw.choice(found)
    changed = bytearray(parts[i])
    for _ in range(draw.randrange(1, 40)):
        changed[draw.randrange(keep, len(changed))] = draw.randrange(256)
    parts[i] = bytes(changed)
    return join(parts)


def _later_frames(data: bytearray, draw: random.Random) -> bytearray:
    """The second half of a moving picture overwritten: its first frame is intact."""
    for _ in range(30):
        data[draw.randrange(len(data) * 3 // 4, len(data))] = draw.randrange(256)
    return data


def _palette(data: bytearray, draw: random.Random) -> bytearray:
    """Other colours, and perhaps fewer of them."""
    if data[:2] == b"BM":
        data[54 : 54 + 1024] = draw.randbytes(1024)
        return data
    if data[:3] == b"GIF":
        data[13:60] = draw.randbytes(47)
        return data
    chunks = dict(_png_chunks(bytes(data)))
    chunks[b"PLTE"] = draw.randbytes(3 * draw.randrange(1, 257))
    return _png(list(chunks.items()))


def _depth(data: bytearray, draw: random.Random) -> bytearray:
    """A PNG of another depth and kind of colour than its pixels have."""
    data[24], data[25] = draw.choice([1, 2, 4, 8, 16]), draw.choice([0, 2, 3, 4, 6])
    return _checked(data)


def _deep_values(data: bytearray, draw: random.Random) -> bytearray:
    """Numbers of 16 bits and floats overwritten: any 16 bits are a grey, not any float."""
    if data[:2] == b"II":
        at = draw.randrange(200, len(data) - 40)
        data[at : at + 8] = draw.randbytes(8)
        return data
    chunks = dict(_png_chunks(bytes(data)))
    pixels = bytearray(zlib.decompress(chunks[b"IDAT"]))
    for _ in range(20):  # every 81st byte names a row's filter
        at = draw.randrange(len(pixels))
        pixels[at] = draw.randrange(5) if at % 81 == 0 else draw.randrange(256)
    chunks[b"IDAT"] = zlib.compress(bytes(pixels))
    return _png(list(chunks.items()))


def _bomb(data: bytearray, draw: random.Random) -> bytearray:
    """A PNG whose pixels unpack to far more than its header says, or to far less."""
    chunks = dict(_png_chunks(bytes(data)))
    chunks[b"IDAT"] = zlib.compress(bytes(draw.choice([10, 1_000_000])))
    return _png(list(chunks.items()))


_ALL, _PIECES = ("",), ("png", "jpeg", "webp")
_SIZED = ("png", "jpeg", "gif", "bmp", "tiff", "webp", "avif", "mpo")
KINDS: dict[str, tuple[Callable[[bytearray, random.Random], bytearray], tuple[str, ...]]] = {
    "cut": (_cut, _ALL),
    "stub": (_stub, _ALL),
    "one bit": (_one_bit, _ALL),
    "many bits": (_many_bits, _ALL),
    "head bits": (_head_bits, _ALL),
    "zeros": (_filled(0), _ALL),
    "ones": (_filled(255), _ALL),
    "noise": (_filled(None), _ALL),
    "bytes lost": (_lost, _ALL),
    "bytes twice": (_twice, _ALL),
    "bytes exchanged": (_exchanged, _ALL),
    "tail": (_tail, _ALL),
    "foreign head": (_foreign_head, _ALL),
    "two halves": (_two_halves, _ALL),
    "huge": (_huge, _SIZED),
    "no pixels": (_empty, _SIZED),
    "other size": (_other_size, _SIZED),
    "narrow": (_narrow, _SIZED),
    "parts exchanged": (_parts_exchanged, _PIECES),
    "part lost": (_part_lost, _PIECES),
    "part length": (_part_length, _PIECES),
    "metadata": (_metadata, ("jpeg-metadata", "png-metadata", "webp-metadata")),
    "later frames": (_later_frames, ("png-moving", "gif-moving", "mpo-two")),
    "palette": (_palette, ("png-palette", "bmp-palette", "gif")),
    "depth": (_depth, ("png",)),
    "deep values": (_deep_values, ("png-16", "tiff-16", "tiff-float")),
    "bomb": (_bomb, ("png",)),
}


def mutant(kind: str, number: int) -> tuple[str, bytes]:
    """The file that was damaged, and the damaged bytes."""
    change, wanted = KINDS[kind]
    names = [name for name in files() if name.startswith(wanted)]
    if wanted == _SIZED:
        names.remove("webp-lossless")  # 14 bits across bytes
    name = names[number % len(names)]
    draw = random.Random(f"{kind} {name} {number}")
    return name, bytes(change(bytearray(files()[name]), draw))


# ---- what the decoder makes of them ----


def main() -> None:
    """One line of JSON a mutant, before it is decoded and after, so that a crash names its cause."""
    import faulthandler

    from fewclip.data import load_image
    from fewclip.errors import ImageError

    allow = "--allow-truncated" in sys.argv
    kinds = [kind for kind in KINDS if kind in sys.argv] or list(KINDS)
    for kind in kinds:
        for number in range(PER_KIND):
            name, content = mutant(kind, number)
            print(json.dumps([kind, number, name]), flush=True)
            faulthandler.dump_traceback_later(10, exit=True)
            started = time.process_time()
            try:
                image = load_image(content, allow_truncated=allow)
                assert image.mode == "RGB"
                outcome, digest = "decoded", zlib.crc32(image.tobytes())
            except ImageError as error:
                outcome, digest = str(error), 0
            seconds = time.process_time() - started
            print(json.dumps([outcome, seconds, image_memory(), digest]), flush=True)


def image_memory() -> int:
    """The most memory that this process has had, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # not ru_maxrss: a child inherits it from the process that started it
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
