"""Images decoded and prepared in threads, a batch ahead of the tower that waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fewclip.data.images import load_image
from fewclip.errors import InputError

Source = Image.Image | str | Path


def input_batches(
    images: Sequence[Source],
    prepare: Callable[[Image.Image], np.ndarray],
    *,
    batch_size: int,
    threads: int,
) -> Iterator[np.ndarray]:
    """Prepared batches, (b, …); the next one is being decoded while the caller runs one.

    Args:
        images: PIL images or paths.
        prepare: What the tower takes, of one RGB image.
        batch_size: Images of a batch.
        threads: That decode.

    Raises:
        ImageError: An image cannot be decoded.
        InputError: One image instead of a list.
    """
    check_list("images", images)

    def submit(start: int) -> list[Future[np.ndarray]]:
        # PIL images may be lazy and may occur twice, and PIL loads them without a lock: not in the pool.
        sources = [
            load_image(source, name=f"images[{row}]") if isinstance(source, Image.Image) else source
            for row, source in enumerate(images[start : start + batch_size], start)
        ]
        return [pool.submit(load, source) for source in sources]

    def load(source: Source) -> np.ndarray:
        return prepare(load_image(source))

    pool = ThreadPoolExecutor(threads, thread_name_prefix="fewclip-decode")
    try:
        coming = submit(0)
        for start in range(batch_size, len(images) + batch_size, batch_size):
            current, coming = coming, submit(start)
            if current:
                yield np.stack([future.result() for future in current])
    finally:
        pool.shutdown(cancel_futures=True)


def check_list(name: str, value: object) -> None:
    """Raises InputError for one text, path or image where a list belongs."""
    if isinstance(value, str | Path | Image.Image):
        raise InputError(
            name,
            expected=f"a list of {name}",
            got=f"one {type(value).__name__}",
            fix="Put it in a list: [x].",
        )
