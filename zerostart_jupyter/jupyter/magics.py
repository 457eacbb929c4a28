"""`%zs_install`, `%zs_load`, `%zs_snapshot`: each a few lines over an engine's call."""

from __future__ import annotations

import argparse
import keyword
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    output_can_be_silenced,
)
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from zerostart_jupyter.jupyter import keeping, where

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from zerostart_jupyter.core.settings import Settings
    from zerostart_jupyter.jupyter.config import Zerostart

# what each action of %zs_snapshot takes, for usage errors and completion
ACTIONS = {
    "save": "NAME",
    "list": "",
    "show": "NAME",
    "restore": "NAME",
    "clone": "NAME",
    "rename": "NAME NEW",
    "delete": "NAME",
    "publish": "NAME",
    "export": "NAME FILE",
    "import": "FILE [NAME]",
    "pin": "NAME",
    "unpin": "NAME",
    "auto": "on|off",
    "undo": "[N]",
    "park": "",
    "wake": "",
    "doctor": "",
}
_KEPT = ("wait", "into_kernel", "verify")  # flags of %zs_install that --save leaves in the cell
# take an existing name
NAMING = (
    *("show", "restore", "clone", "rename", "delete", "publish"),
    *("export", "pin", "unpin"),
)


@magics_class
class ZerostartMagics(Magics):
    """The magics of one shell."""

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell, config: Zerostart) -> None:
        super().__init__(shell)
        self._config = config

    def _settings(self) -> Settings:
        return self._config.settings()

    @magic_arguments()
    @argument("requirements", nargs="*", help="what to install, as pip writes it: torch 'numpy>=2'")
    @argument("-r", "--requirement", action="append", default=[], help="a requirements file")
    @argument("--wait", action="store_true", help="return only when everything is installed")
    @argument("--dry-run", action="store_true", help="say what would be fetched, fetch nothing")
    @argument("--into-kernel", action="store_true", help="into the kernel's own environment")
    @argument("--index-url", help="the index to ask instead of the configured one")
    @argument("--extra-index-url", action="append", default=[], help="one more index to ask")
    @argument("--offline", action="store_true", help="use only what is already here")
    @argument("--verify", action="store_true", help="wait, and compare every file with its hash")
    @argument("--save", action="store_true", help="write it into this cell as a PEP 723 block")
    @output_can_be_silenced
    @line_cell_magic
    def zs_install(self, line: str, cell: str | None = None) -> Any:
        """Stream packages into this kernel; imports wait for their own package only.

        Returns as soon as the plan is known. With no arguments: the notebook's PEP 723 cell, else
        pyproject.toml, else requirements.txt, found upwards. As a cell magic the body holds one
        requirement a line, or a PEP 723 block.

        Example: `%zs_install torch "transformers>=5"`
        """
        args = _parse(self.zs_install, line)
        from zerostart_jupyter import install as engine

        files = [Path(name).expanduser() for name in args.requirement]
        if args.save:
            keeping.check(args.requirements, cell, files)
        request = engine.gather(
            args.requirements,
            files=files,
            text=cell,
            notebook=where.notebook(),
            executed=keeping.executed(self.shell),
            index=engine.IndexOptions(
                index_url=args.index_url,
                extra_index_urls=tuple(args.extra_index_url),
                offline=args.offline,
            ),
        )
        settings = self._settings()
        if args.dry_run:
            return engine.plan(request, settings=settings)
        found = engine.install(
            request=request,
            wait=args.wait,
            into_kernel=args.into_kernel,
            verify=args.verify,
            settings=settings,
        )
        if args.save:
            keeping.save(self.shell, args.requirements, cell, _kept_options(args), where.notebook())
        return found

    @magic_arguments()
    @argument("source", help="a .safetensors file, an index, a directory, a hub id or a URL")
    @argument("--into", metavar="NAME", help="a new name for the tensors, or a module to fill")
    @argument("--device", default="auto", help="cuda:0, cpu or auto")
    @argument("--dtype", help="convert on the way: bf16, fp16, fp32")
    @argument(
        "--background", action="store_true", help="return at once; tensors wait when asked for"
    )
    @argument("--reader", default="auto", help="auto, cufile, direct or mmap")
    @output_can_be_silenced
    @line_magic
    def zs_load(self, line: str) -> Any:
        """Load a checkpoint's tensors as fast as the disk gives them.

        `--into NAME`: NAME not defined becomes a mapping of tensors; a torch module, such as
        `model` or `model.encoder`, is filled with its weights. `handle["layer.weight"]` is there
        before the rest has arrived; with `--background` a module's forward waits layer by layer.

        Example: `%zs_load model.safetensors --into weights`
        """
        args = _parse(self.zs_load, line)
        from zerostart_jupyter import load as engine

        options = {"dtype": args.dtype, "reader": args.reader, "settings": self._settings()}
        source = _expand(args.source, self.shell.user_ns)
        target = _module(args.into, self.shell.user_ns) if args.into else None
        if target is not None:
            place = None if args.device == "auto" else args.device  # where the module is already
            return engine.load_into(
                target, source, device=place, layered=args.background, **options
            )
        weights = engine.load(source, device=args.device, background=args.background, **options)
        if not args.background:
            weights.wait()
        if args.into:
            self.shell.user_ns[args.into] = weights
        return weights

    @magic_arguments()
    @argument(
        "action", help=", ".join(f"{name} {takes}".strip() for name, takes in ACTIONS.items())
    )
    @argument("names", nargs="*", help="the snapshot's name, or what the action takes")
    @argument("--replace", action="store_true", help="save over a snapshot of the same name")
    @argument("--tier", default="auto", help="auto, process or portable")
    @argument("--from-undo", metavar="N", type=int, help="save what was before the last N cells")
    @argument("--trust", action="store_true", help="run the code of a snapshot from elsewhere")
    @argument("--park", action="store_true", help="leave the GPU's memory free after saving")
    @output_can_be_silenced
    @line_magic
    def zs_snapshot(self, line: str) -> Any:
        """Save this kernel, bring it back, run it twice.

        `save NAME` leaves the kernel running; `restore NAME` puts the saved one in its place;
        `clone NAME` starts it beside this one; `publish NAME` makes it a kernel to choose.
        After `auto on` each cell can be undone: `undo` goes back to before the last one, `undo 3`
        to before the last three; files that they wrote stay as they are.
        `export NAME FILE` writes it for another machine, `import FILE` takes it in; restoring what
        others made runs their code, so that needs `--trust`, once.
        `park` moves the GPU's memory to the host and frees the GPU, until `wake` or the next cell.

        Example: `%zs_snapshot save ready`
        """
        args = _parse(self.zs_snapshot, line)
        takes = ACTIONS.get(args.action)
        if takes is None or not _fits(args.names, takes.split()):
            known = " | ".join(f"{name} {takes}".strip() for name, takes in ACTIONS.items())
            raise UsageError(f"%zs_snapshot {line.strip()}: expected one of {known}")
        from zerostart_jupyter.jupyter import actions

        return actions.run(args.action, args.names, args, self._settings())


def _fits(given: list[str], takes: list[str]) -> bool:
    """Whether these are the words an action takes: NAME, one|other, [what may be left out]."""
    needed = sum(not each.startswith("[") for each in takes)
    chosen = zip(given, takes, strict=False)
    return needed <= len(given) <= len(takes) and all(
        word in kind.split("|") for word, kind in chosen if "|" in kind
    )


def _parse(magic: Any, line: str) -> argparse.Namespace:
    """The magic's arguments, without the quotes and the final `;` that IPython leaves on."""
    try:
        args: argparse.Namespace = parse_argstring(magic, line.rstrip().removesuffix(";"))
    except ValueError as error:  # of shlex: a quote that is not closed
        raise UsageError(f"%{magic.__name__} {line.strip()}: {error}") from error
    for name, value in vars(args).items():
        if isinstance(value, str):
            setattr(args, name, unquote(value))
        elif isinstance(value, list):
            setattr(args, name, [unquote(each) for each in value])
    return args


def _kept_options(args: argparse.Namespace) -> str:
    """The options of %zs_install that a saved cell keeps."""
    words = [f"--{name.replace('_', '-')}" for name in _KEPT if vars(args)[name]]
    words += [f"--index-url {args.index_url}"] if args.index_url else []
    words += [f"--extra-index-url {each}" for each in args.extra_index_url]
    return " ".join([*words, *(["--offline"] if args.offline else [])])


def unquote(word: str) -> str:
    """The word without the quotes around it, which IPython's parser leaves on."""
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


def _module(into: str, names: dict[str, Any]) -> Any:
    """The torch module that `--into` names; None for a name that the tensors may have.

    Raises UsageError for anything else, so that nothing of the user's is written over.
    """
    from zerostart_jupyter.load import Weights

    nothing = object()
    name, *path = into.split(".")
    found = names.get(name, nothing)
    for attribute in path:
        found = getattr(found, attribute, nothing)
    if hasattr(type(found), "named_parameters"):
        return found
    if into.isidentifier() and not keyword.iskeyword(into):
        if found is nothing or isinstance(found, Weights):  # the cell was run before
            return None
    elif found is nothing:
        raise UsageError(
            f"%zs_load --into {into}: there is no such module. "
            "Give a torch module or a name that is not defined."
        )
    raise UsageError(
        f"%zs_load --into {into}: it is a {type(found).__name__} and no torch module. "
        "Give a torch module or a name that is not defined."
    )


def _expand(source: str, names: dict[str, Any]) -> str:
    """A path with `~`; a bare Python name that holds a path stands for it."""
    held = names.get(source) if source.isidentifier() else None
    if isinstance(held, str | Path):
        return str(held)
    return str(Path(source).expanduser()) if source.startswith("~") else source
