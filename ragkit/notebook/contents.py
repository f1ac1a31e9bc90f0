"""Notebooks as JupyterLab expects them, so that opening one does not mark it as unsaved."""

from __future__ import annotations

from typing import Any

from ipykernel.ipkernel import IPythonKernel
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class Contents(AsyncLargeFileManager):
    """Jupyter's files; a Python notebook is handed out with the ``language_info`` of this environment's kernel.

    JupyterLab writes what the kernel says of itself (such as the patch version of Python) into the open notebook. Where
    the file was written by another Python, that is a change, and the tab shows it. ``make lab`` names this class.
    """

    async def get(
        self,
        path: str,
        content: bool = True,
        type: str | None = None,
        format: str | None = None,
        require_hash: bool = False,
    ) -> dict[str, Any]:
        """The model of a file or folder, as ``ContentsManager.get``."""
        arguments = (path, content, type, format, require_hash)
        model: dict[str, Any] = await super().get(*arguments)  # type: ignore[no-untyped-call]
        if model["type"] == "notebook" and model["content"]:
            metadata = model["content"]["metadata"]
            if metadata.get("kernelspec", {}).get("language") == "python":
                metadata["language_info"] = IPythonKernel.language_info
        return model
