"""A frontend's debugger: it speaks to a kernel over the control channel, in the words of DAP."""

from __future__ import annotations

import itertools
from typing import Any

from tests.patience import PATIENCE
from tests.snapshot.kernels import Cells

_ABOUT = {"clientID": "tests", "adapterID": "", "pathFormat": "path", "linesStartAt1": True}


class Debugger:
    """One client's debugger of a kernel."""

    def __init__(self, cells: Cells) -> None:
        self._client = cells.client
        self._numbers = itertools.count(1)

    def attach(self) -> None:
        """As JupyterLab does when its debugger is switched on."""
        assert self.ask("initialize", **_ABOUT)["success"]
        assert self.ask("attach")["success"]

    def leave(self) -> None:
        """As it does when that is switched off."""
        self.ask("disconnect", restart=False, terminateDebuggee=False)

    def stops(self, code: str, line: int) -> bool:
        """Whether a cell stops at a breakpoint on this line of it, and goes on from there."""
        path = self.ask("dumpCell", code=code)["body"]["sourcePath"]
        lines = [{"line": line}]
        self.ask("setBreakpoints", source={"path": path}, breakpoints=lines, sourceModified=False)
        self.ask("configurationDone")
        asked, stopped = self._client.execute(code), False
        while True:
            message = self._client.get_iopub_msg(timeout=PATIENCE)
            content = message["content"]
            if message["msg_type"] == "debug_event" and content.get("event") == "stopped":
                stopped = content["body"]["reason"] == "breakpoint"
                self.ask("continue", threadId=content["body"]["threadId"])
            elif (
                message["msg_type"] == "status"
                and content["execution_state"] == "idle"
                and message["parent_header"].get("msg_id") == asked
            ):
                return stopped

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """What the kernel answers."""
        about = {"type": "request", "seq": next(self._numbers), "command": command}
        message = self._client.session.msg("debug_request", about | {"arguments": arguments})
        self._client.control_channel.send(message)
        while True:
            answer = self._client.get_control_msg(timeout=PATIENCE)
            if answer["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return dict(answer["content"])
