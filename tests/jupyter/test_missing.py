"""What is offered for a module that is not there, and what never is."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from packaging.requirements import Requirement

from zerostart_jupyter.jupyter import missing
from zerostart_jupyter.jupyter.missing import MIME, Offer, offer

if TYPE_CHECKING:
    from tests.jupyter.conftest import Kernel

TABLE = {name: found for name, found in missing._known().items() if found != "-"}
COMMONEST = [
    tuple(line.split())
    for line in Path(__file__).with_name("commonest_mismatches.txt").read_text().splitlines()
    if not line.startswith("#")
]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python in which nothing but the standard library is installed."""
    monkeypatch.setattr(missing, "_installed", lambda distribution: False)
    monkeypatch.setattr(missing, "_present", lambda top: False)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("cv2", "opencv-python"),
        ("PIL", "pillow"),
        ("PIL.Image", "pillow"),
        ("sklearn.linear_model", "scikit-learn"),
        ("skimage", "scikit-image"),
        ("yaml", "pyyaml"),
        ("bs4", "beautifulsoup4"),
        ("dotenv", "python-dotenv"),
        ("dateutil.parser", "python-dateutil"),
        ("google.cloud.storage", "google-cloud-storage"),
        ("google.protobuf.message", "protobuf"),
        ("fitz", "pymupdf"),
        ("Crypto.Cipher", "pycryptodome"),
        ("jwt", "pyjwt"),
        ("serial", "pyserial"),
        ("mpl_toolkits.mplot3d", "matplotlib"),
        ("pywt", "pywavelets"),
        ("pdfminer.high_level", "pdfminer-six"),
        ("multipart", "python-multipart"),
        ("cupy", "cupy-cuda12x"),
        ("cudf", "cudf-cu12"),
        ("cuml.cluster", "cuml-cu12"),
        ("ot", "pot"),
        ("community", "python-louvain"),
        ("win32com.client", "pywin32"),
        ("win32api", "pywin32"),
        ("bidi.algorithm", "python-bidi"),
        ("markdown_it", "markdown-it-py"),
        ("gridfs", "pymongo"),
        ("pkg_resources", "setuptools<82"),
        ("distutils.core", "setuptools"),
    ],
)
def test_what_is_known_is_said_as_a_fact(module: str, distribution: str) -> None:
    assert offer(module) == Offer(module, distribution, known=True)


@pytest.mark.usefixtures("bare")
def test_the_commonest_mismatches_are_known() -> None:
    assert len(COMMONEST) >= 100
    wrong = {
        module: (expected, found)
        for module, expected in COMMONEST
        if (found := offer(module)) != Offer(module, expected, known=True)
    }
    assert not wrong


@pytest.mark.usefixtures("bare")
def test_what_is_not_known_is_a_guess_and_says_so() -> None:
    assert offer("my_module.part") == Offer("my_module.part", "my-module", known=False)
    assert "guess" in str(offer("my_module"))
    assert "guess" not in str(offer("cv2"))


def test_a_module_that_later_versions_left_out_is_offered_with_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "84.2.1")
    found = offer("pkg_resources")
    assert "run `%zs_install 'setuptools<82'`, then this cell again." in str(found)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "81.0.0")
    assert offer("pkg_resources") is None


def test_distutils_needs_a_line_of_its_own_and_no_button() -> None:
    found = Offer("distutils.core", "setuptools", known=True)
    assert str(found).endswith("then `import setuptools` and this cell.")
    assert found.bundle() == {"text/plain": str(found)}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("module", ["google", "azure", "tkinter", "_tkinter", "größe", "_private"])
def test_of_some_nothing_is_said(module: str) -> None:
    assert offer(module) is None


def test_what_is_here_lacks_something_else() -> None:
    assert offer("packaging.nothing") is None  # its parent is there
    assert offer("yaml.nothing") is None  # the distribution is installed


def test_the_table_is_in_order_and_needs_each_of_its_lines() -> None:
    names = list(missing._known())
    assert names == sorted(names, key=str.lower)
    assert len(TABLE) >= 100
    for name, found in TABLE.items():
        distribution = Requirement(found).name
        assert "." in name or normal(name) != distribution
        assert distribution == normal(distribution)


def test_the_table_agrees_with_what_is_installed() -> None:
    """Each distribution of the table that is here brings the module that is told of it."""
    here = importlib.metadata.packages_distributions()
    checked = set()
    for name, distribution in TABLE.items():
        if not missing._installed(distribution) or name == "distutils":  # setuptools puts it there
            continue
        brings = map(normal, here.get(name.partition(".")[0], []))
        assert Requirement(distribution).name in brings, name
        checked.add(name)
    assert checked >= {"yaml", "zmq", "dateutil", "attr", "PIL"}
    for top, distributions in here.items():  # and nothing installed is called otherwise there
        if top in TABLE:
            assert Requirement(TABLE[top]).name in map(normal, distributions)


def test_a_terminal_prints_it(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run_cell("import telebot").error_in_exec is not None
    assert "telebot is in pytelegrambotapi: run `%zs_install" in capsys.readouterr().out
    shell.run_line_magic("config", "Zerostart.no_import_offers = True")
    shell.run_cell("import telebot")
    shell.run_cell("raise ModuleNotFoundError('without a name')")
    assert "zs_install" not in capsys.readouterr().out


def test_a_kernel_displays_it_after_the_error(kernel: Kernel) -> None:
    found, reply = kernel.attempt("import telebot")
    assert reply["status"] == "error"
    kinds = [each["type"] for each in found if each["type"] in ("error", "display_data")]
    assert kinds == ["error", "display_data"]
    [data] = [each["data"] for each in found if each["type"] == "display_data"]
    known = {"module": "telebot", "distribution": "pytelegrambotapi", "known": True}
    assert data[MIME] == known  # type: ignore[index]
    assert "%zs_install pytelegrambotapi" in data["text/plain"]  # type: ignore[index]
    assert not [each for each in kernel.run("1") if each["type"] == "display_data"]


def test_a_notebook_that_is_run_keeps_the_hint(private: Path) -> None:
    cells = [nbformat.v4.new_code_cell(code) for code in ("%load_ext zerostart", "import telebot")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, allow_errors=True, kernel_name="python3").execute(cwd=str(private))
    outputs = notebook.cells[1].outputs
    assert [output.output_type for output in outputs] == ["error", "display_data"]
    assert "telebot is in pytelegrambotapi" in outputs[1].data["text/plain"]
