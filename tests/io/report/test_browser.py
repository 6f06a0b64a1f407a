"""The report in a real browser: it renders, no errors on the console, the pictures not blank."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from phai_cctbx.io.report.write import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Chromium without a screen, without a graphics card, and with no way to the network.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
)
WIDTH, HEIGHT = 1180, 2600
#: Far above what the browser needs on a machine with nothing else to do.
TIMEOUT = 400


@pytest.fixture(scope="module")
def browser():
    """Path of a Chromium, or a skip."""
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    return found[0]


@pytest.fixture
def looked_at(browser, tmp_path):
    """Function: result -> (picture as an array of height x width x 3, console messages)."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

    def look(result):
        report = write_report(tmp_path / "report.html", result)
        picture = tmp_path / "report.png"
        finished = subprocess.run(
            [
                browser,
                *OPTIONS,
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={picture}",
                report.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert picture.is_file(), finished.stderr[-2000:]
        with image.open(picture) as opened:
            pixels = np.asarray(opened.convert("RGB"), dtype=int)
        return pixels, re.findall(r'CONSOLE.*?"(.*)"', finished.stderr)

    return look


def has_color(pixels, color, tolerance=60):
    """How many pixels are near a colour."""
    return int((np.abs(pixels - color).max(axis=-1) < tolerance).sum())


@pytest.mark.slow
def test_it_renders(looked_at, solved_result):
    pixels, console = looked_at(solved_result)
    errors = [line for line in console if re.search(r"error|uncaught|fail", line, re.I)]
    assert errors == []
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    rows = np.flatnonzero((pixels.min(axis=-1) < 200).any(axis=1))
    assert rows.max() > 0.8 * HEIGHT  # something down to the end of the window
    # the viewer is the first large picture, below the header and the warnings
    viewer = pixels[300:800, 60:-60]
    assert has_color(viewer, (0x3A, 0x7F, 0xB5)) > 1000  # the map
    assert has_color(viewer, (0xE0, 0x10, 0x10)) > 50  # the oxygen atom
    # contours and charts further down
    assert has_color(pixels[900:], (0x1F, 0x5F, 0x8B)) > 3000
