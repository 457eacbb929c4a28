"""`%config Zerostart.…`: the settings as traits, made from the one table in `core.settings`."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from traitlets import Any as AnyTrait
from traitlets.config import Configurable

from zerostart_jupyter.core.settings import Settings, table


class Setting(AnyTrait):
    """A trait that is read as the environment variable would be; its name is shown to the user."""


def _traits() -> dict[str, Any]:
    traits: dict[str, Any] = {}
    for each, (env, default, doc) in zip(fields(Settings), table(), strict=True):
        shown = f" Default: {default}." if default else ""
        words = f"{doc} Environment: {env}.{shown}"
        traits[each.name] = Setting(None, allow_none=True, help=words).tag(config=True)
    return traits


# `%config Zerostart` shows the name of the base.
_Base = type("Configurable", (Configurable,), _traits())


class Zerostart(_Base):  # type: ignore[misc, valid-type]
    """Settings of this kernel; None means the environment's or the default."""

    def settings(self) -> Settings:
        """Settings with what was configured here on top; raises SettingsError for bad values."""
        environ = {}
        for each in fields(Settings):
            value = getattr(self, each.name)
            if value is not None:
                environ[each.metadata["env"]] = str(value)
        return Settings.read({**os.environ, **environ})
