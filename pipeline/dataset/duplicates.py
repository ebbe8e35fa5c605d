"""Near-duplicate photos (copies, re-encodings, flips, quarter turns): candidates by a perceptual hash, then confirmed.

The hash is the sign pattern of the low frequencies of the cosine transform (pHash: Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010). Candidates share a 16-bit quarter of the 64-bit hash in one of
the eight orientations; a candidate pair counts when the 16 x 16 grey thumbnails correlate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
SAMPLED = 128  # px: a cell of a large photo's thumbnail is the mean of 8 x 8 pixels of it
MAX_BITS = 12  # of 64: pairs further apart are no candidates
MIN_CORRELATION = 0.97  # of the thumbnails; unrelated photos stay below .9 (predecessors.md, Part K')


def thumbnail(image: Image.Image) -> bytes:
    """Grey 16 x 16 picture of a photo, the whole frame squashed, row by row; of large photos every n-th pixel counts."""
    if min(image.size) >= 2 * SAMPLED:
        image = image.resize((SAMPLED, SAMPLED), Image.Resampling.NEAREST)
    return image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def duplicate_groups(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group of each photo, numbered by first appearance; photos that look alike share one. (n, 16, 16) -> (n,)."""
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    n = len(thumbnails)
    if n == 0:
        return np.zeros(0, np.int64)
    views = [_orient(thumbnails, k) for k in range(8)]
    hashes = [_hash(view) for view in views]
    flat = _standardise(views[0])
    rows, cols = [], []
    for k in range(8):
        left, right = _candidates(hashes[k], hashes[0])
        turned = _standardise(views[k])
        alike = np.einsum("ij,ij->i", turned[left], flat[right]) >= MIN_CORRELATION
        rows.append(left[alike])
        cols.append(right[alike])
    row, col = np.concatenate(rows), np.concatenate(cols)
    graph = coo_array((np.ones(len(row), np.int8), (row, col)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    _, first = np.unique(labels, return_index=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    groups: NDArray[np.int64] = order[labels]
    return groups


def _orient(images: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
    flipped = images[:, :, ::-1] if k >= 4 else images
    return np.rot90(flipped, k % 4, axes=(1, 2))


def _hash(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    from scipy.fft import dctn  # slow to import

    low: NDArray[np.float32] = dctn(images.astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8].reshape(
        len(images), 64
    )
    low[:, 0] = 0  # mean brightness carries no information
    bits = low > np.median(low, axis=1, keepdims=True)
    packed: NDArray[np.uint64] = np.packbits(bits, axis=1).view(np.uint64)
    return packed[:, 0]


def _standardise(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    np.divide(flat, norm, out=flat, where=norm > 0)  # a blank picture stays 0 and matches nothing
    return flat


def _candidates(query: NDArray[np.uint64], table: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index pairs (i of query, j > i of table) that agree in at least one 16-bit quarter and differ in few bits."""
    pairs = []
    for quarter in range(4):
        shift = np.uint64(16 * quarter)
        mask = np.uint64(0xFFFF)
        keys, wanted = (table >> shift) & mask, (query >> shift) & mask
        order = np.argsort(keys, kind="stable")
        start = np.searchsorted(keys[order], wanted, "left")
        count = np.searchsorted(keys[order], wanted, "right") - start
        left = np.repeat(np.arange(len(query)), count)
        offset = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
        right = order[np.repeat(start, count) + offset]
        keep = left < right
        left, right = left[keep], right[keep]
        near = np.bitwise_count(query[left] ^ table[right]) <= MAX_BITS  # before the sort below, which costs most
        pairs.append(left[near] * len(table) + right[near])
    unique = np.unique(np.concatenate(pairs))
    return unique // len(table), unique % len(table)
