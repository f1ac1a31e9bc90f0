"""FAISS indexes by name, all by inner product, so that unit vectors are compared by cosine.

========  =================================  ===========================  =====================================
name      what it is                         bytes a vector of d numbers  when
========  =================================  ===========================  =====================================
flat      compares with every vector         4 d                          exact; up to some 50,000 vectors
sq8       flat, numbers in 8 bits            d                            a quarter of the memory, nearly exact
hnsw      a graph of neighbours              4 d + 256                    fast up to some millions
ivfpq     cells of product-quantised codes   d / 8                        when memory is what is short
auto      flat, hnsw or ivfpq, by size
========  =================================  ===========================  =====================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import InputError, Vectors, require

NAMES = ("flat", "sq8", "hnsw", "ivfpq", "auto")
_HNSW_FROM, _IVFPQ_FROM = 50_000, 2_000_000  # vectors from which `auto` changes the index
_PQ_TRAINING = 39 * 256  # FAISS wants 39 examples for each of the 256 centroids of a code


def choose(name: str, n: int) -> str:
    """The index that ``name`` means for ``n`` vectors.

    >>> choose("auto", 2000), choose("auto", 100_000), choose("sq8", 5)
    ('flat', 'hnsw', 'sq8')

    Raises:
        InputError: no such index, or too few vectors to train it.
    """
    if name not in NAMES:
        raise InputError(f"index = {name!r}: expected one of {', '.join(NAMES)}")
    if name == "auto":
        return "flat" if n < _HNSW_FROM else "hnsw" if n < _IVFPQ_FROM else "ivfpq"
    if name == "ivfpq" and n < _PQ_TRAINING:
        raise InputError(
            f"index = 'ivfpq' learns its codes from at least {_PQ_TRAINING} vectors, found {n}: use 'flat'"
        )
    return name


def make_index(name: str, vectors: Vectors) -> Any:
    """The index ``name`` (not ``auto``) over ``vectors`` ``(n, d)``."""
    faiss = require("faiss", "search")
    n, d = vectors.shape
    if name == "hnsw":
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
    elif name == "sq8" and n:
        index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    elif name == "ivfpq":
        cells, codes = int(n**0.5), next(m for m in (d // 8, d // 4, 1) if m and d % m == 0)
        index = faiss.index_factory(d, f"IVF{cells},PQ{codes}x8", faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.nprobe = max(16, cells // 8)
    else:
        index = faiss.IndexFlatIP(d)
    if n:
        index.train(vectors)
        index.add(vectors)
    return index


def search(index: Any, queries: Vectors, k: int, allowed: NDArray[np.bool_]) -> tuple[Vectors, NDArray[np.int64]]:
    """Scores and places ``(len(queries), k)`` of the nearest ``allowed`` vectors; place -1 where there is none."""
    faiss = require("faiss", "search")
    share = max(float(allowed.mean()), 1e-6)
    selector = None if allowed.all() else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    if isinstance(index, faiss.IndexHNSW):  # look at more of the graph for more hits, or where few count
        wide = min(len(allowed), int(max(128, 4 * k) / share))
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=wide)
    elif isinstance(index, faiss.IndexIVF):
        cells = min(index.nlist, int(index.nprobe / share))
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=cells)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    threads = faiss.omp_get_max_threads()  # from OMP_NUM_THREADS, else the cores that this process may use
    try:
        if len(queries) == 1:  # threads cost a single query more than they bring
            faiss.omp_set_num_threads(1)
        scores, places = index.search(queries, k, params=parameters)
    finally:
        faiss.omp_set_num_threads(threads)
    return scores, places
