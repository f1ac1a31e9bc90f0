"""The words that some families of models were trained with in front of every query and every passage.

Left out, nothing fails and the results are a little worse: so they are known here by the model's name.

- E5: https://huggingface.co/intfloat/multilingual-e5-large (FAQ), the instruct models: their own cards
- BGE, English and Chinese version 1 and 1.5, queries only: https://huggingface.co/BAAI/bge-small-en-v1.5; bge-m3: none
- GTE: none, https://huggingface.co/thenlper/gte-small
- nomic: https://huggingface.co/nomic-ai/nomic-embed-text-v1.5
"""

from __future__ import annotations

from collections.abc import Mapping

from ragkit.base import Kind

_E5_TASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
_BGE_EN = "Represent this sentence for searching relevant passages: "
_BGE_ZH = "为这个句子生成表示以用于检索相关文章："

# The first rule all of whose words are in the model's name decides.
_FAMILIES: tuple[tuple[tuple[str, ...], Mapping[Kind, str]], ...] = (
    (("e5-", "instruct"), {"query": _E5_TASK, "passage": ""}),
    (("e5-",), {"query": "query: ", "passage": "passage: "}),
    (("bge-", "-en"), {"query": _BGE_EN, "passage": ""}),
    (("bge-", "-zh"), {"query": _BGE_ZH, "passage": ""}),
    (("nomic-embed-text",), {"query": "search_query: ", "passage": "search_document: "}),
)


def known_prefixes(name: str) -> Mapping[Kind, str]:
    """What the model called ``name`` wants in front of queries and passages; nothing where no family is known.

    >>> known_prefixes("intfloat/multilingual-e5-large")
    {'query': 'query: ', 'passage': 'passage: '}
    >>> known_prefixes("BAAI/bge-m3")
    {}
    """
    model = name.rstrip("/").split("/")[-1].lower()
    return next((prefixes for words, prefixes in _FAMILIES if all(word in model for word in words)), {})
