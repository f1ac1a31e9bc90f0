"""JupyterLab in a real chromium: the fixture ``lab`` opens notebooks, runs them, and looks at what a person would see.
The fixture ``chromium`` is a window alone, for pages that are files.

Every test gets a server of its own with its own settings, so nothing of the person who runs the tests is read or
written. Screenshots are kept in ``screenshots/`` of ragkit's home.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from notebook_rules import SET

from ragkit.files import home

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "only-this-test"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1800"),
)

# The widget of the open notebook, once it and its kernel are ready.
READY = """
    while (!window.jupyterapp) await new Promise(r => setTimeout(r, 50));
    const app = window.jupyterapp;
    await app.restored;
    while (!(app.shell.currentWidget && app.shell.currentWidget.context)) await new Promise(r => setTimeout(r, 50));
    const panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.context.sessionContext.ready;
"""


class Lab:
    """One JupyterLab with one browser window.

    >>> lab.open("notebooks/00_start_here.ipynb"); lab.run_all(); lab.errors()      # doctest: +SKIP
    []
    """

    def __init__(self, driver: Any, url: str, folder: Path) -> None:
        self.driver, self.url, self.folder = driver, url, folder

    def open(self, path: str | Path) -> None:
        """Open a copy of the notebook at ``path``, with its exercises beside it; the original is never written."""
        shutil.copy(path, self.folder)
        if (path.parent / "exercises").is_dir():
            shutil.copytree(path.parent / "exercises", self.folder / "exercises", dirs_exist_ok=True)
        self.driver.get(f"{self.url}/lab/tree/{Path(path).name}?token={TOKEN}&reset")
        self.script("return true", timeout=90)

    def script(self, body: str, timeout: float = 60) -> Any:
        """The value of ``body``, JavaScript that may ``await`` and knows ``app`` and ``panel`` (the open notebook)."""
        self.driver.set_script_timeout(timeout)
        result = self.driver.execute_async_script(
            f"""const done = arguments[0];
            (async () => {{ {READY} {body} }})().then(v => done([v, null]), e => done([null, String(e)]));"""
        )
        assert result[1] is None, result[1]
        return result[0]

    def run_all(self, timeout: float = 300) -> None:
        """Run every cell and wait until the last one has finished, or one has failed."""
        self._run("notebook:run-all-cells", timeout)

    def run_through(self, text: str, timeout: float = 300) -> None:
        """Run the cells from the top through the first code cell whose source holds ``text``, and wait for them."""
        self._at_cell(text, "panel.content.activeCellIndex = at + 1;")
        self._run("notebook:run-all-above", timeout)

    def scroll_to(self, text: str) -> None:
        """Bring the first code cell whose source holds ``text`` into view: cells far away are not on the page."""
        self._at_cell(text, "await panel.content.scrollToItem(at, 'start');")

    def _at_cell(self, text: str, action: str) -> None:
        self.script(
            f"""const cells = panel.content.widgets.map(c => c.model);
            const at = cells.findIndex(c => c.type === 'code' && c.sharedModel.source.includes({json.dumps(text)}));
            if (at < 0) throw 'no such cell';
            {action}
            return true"""
        )

    def _run(self, command: str, timeout: float) -> None:
        # Start and ask again, because chromedriver's connection gives up on a script after two minutes.
        self.script(
            f"""window.ran = false;
            app.commands.execute('{command}').then(() => window.ran = true, e => window.ran = String(e)); return true"""
        )
        ran = self.wait(lambda: self.driver.execute_script("return window.ran"), timeout)
        assert ran is True, ran

    def cells(self) -> list[dict[str, Any]]:
        """The cells as they would be saved now: source, outputs, execution_count."""
        return list(json.loads(self.script("return JSON.stringify(panel.context.model.toJSON().cells)")))

    def errors(self) -> list[str]:
        """One line for each error that a cell shows, but for cells that are tagged ``raises-exception``."""
        return [
            f"cell {number}: {output['ename']}: {output['evalue']}"
            for number, cell in enumerate(self.cells())
            if "raises-exception" not in cell["metadata"].get("tags", ())
            for output in cell.get("outputs", ())
            if output["output_type"] == "error"
        ]

    def plots(self) -> list[list[dict[str, Any]]]:
        """For each plotly figure on the page its traces (type, name, x, y), as they are drawn now."""
        return list(
            self.driver.execute_script(
                """return [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.data.map(t => ({
                    type: t.type, name: t.name, x: t.x && Array.from(t.x), y: t.y && Array.from(t.y)})))"""
            )
        )

    def find(self, selector: str) -> list[Any]:
        """The elements that a CSS selector finds: ``.jupyter-widgets .noUi-handle`` are the sliders' handles."""
        return list(self.driver.find_elements("css selector", selector))

    def texts(self, selector: str) -> list[str]:
        """What a person reads in these elements, read at one moment: a widget may redraw between two reads."""
        read = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return list(self.driver.execute_script(read, selector))

    def press(self, selector: str, key: str, times: int = 1, index: int = 0) -> None:
        """Press an arrow key (``"ARROW_RIGHT"``) on the ``index``-th element that ``selector`` finds."""
        from selenium.webdriver.common.keys import Keys

        element = self.find(selector)[index]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", element)
        for _ in range(times):
            element.send_keys(getattr(Keys, key))

    def wait(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        """The first true value of ``condition``; fails after ``seconds``."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"still {value!r} after {seconds} s"
            time.sleep(0.1)
        return value

    def save(self) -> None:
        self.script("await panel.context.save(); return true")

    def reload(self) -> None:
        """Save, load the page again, and wait for the notebook; its kernel goes on."""
        self.save()
        self.driver.refresh()
        self.script("return true", timeout=90)

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the window as ``screenshots/<name>.png`` in ragkit's home."""
        path = screenshots() / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path


def screenshots() -> Path:
    """Where pictures are kept."""
    folder = home() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def visitor_environment(folder: Path) -> dict[str, str]:
    """A visitor's environment: none of what the tests set, and Jupyter's own folders in ``folder``."""
    kept = {name: value for name, value in os.environ.items() if name not in {*SET, "PLOTLY_RENDERER"}}
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    names = (*names, "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    own = {name: str(folder / name.lower()) for name in names}
    return kept | own | {"JUPYTER_TOKEN": TOKEN}


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 90) -> None:
    """Return when ``url`` answers; fail with the end of ``log`` when the server ends or time runs out."""
    end = time.monotonic() + seconds
    while True:
        try:
            return urlopen(url, timeout=5).close()
        except OSError:
            assert server.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, f"no answer in {seconds} s: {log.read_text()[-2000:]}"
            time.sleep(0.1)


@contextmanager
def _server(folder: Path, root: Path) -> Iterator[str]:
    """A JupyterLab that serves ``root``; its log is ``folder/lab.log``."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={root}"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
        # As `make lab`:
        f"--LabApp.app_settings_dir={ROOT / 'data' / 'jupyterlab'}",
        "--ServerApp.contents_manager_class=ragkit.notebook.contents.Contents",
    ]
    log = folder / "lab.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=visitor_environment(folder), stdout=output, stderr=output, cwd=root)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/api/status?token={TOKEN}", server, log)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Any]:
    """The selenium driver of a new chromium. Skipped where chromium is missing, required in CI."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if not (browser and driver_path):
        what = "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
        pytest.fail(what) if os.environ.get("CI") == "true" else pytest.skip(what)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def lab(tmp_path: Path, chromium: Any) -> Iterator[Lab]:
    """A new JupyterLab in ``chromium``."""
    # JupyterLab knows its current notebook by the focus, which a window without a screen may not have.
    chromium.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    root = tmp_path / "root"
    root.mkdir()
    with _server(tmp_path, root) as url:
        yield Lab(chromium, url, root)
