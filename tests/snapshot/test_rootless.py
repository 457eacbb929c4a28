"""What an ordinary user can do without any capability, from one end to the other."""

from __future__ import annotations

import pytest

from tests.snapshot.ordinary import User

pytestmark = pytest.mark.criu


def test_a_kernel_is_saved_and_goes_on_and_comes_back_in_place(user: User) -> None:
    with user.kernel() as python:
        pid = python.pid
        python.run("import zerostart_jupyter.snapshot as z; x = 1")
        print(python.run("z.snapshot('one')"))
        assert python.run("z.show('one').tier") == "'process'"
        python.run("x = 2")
        ran = python.attempt("z.restore('one')")
        assert not ran.error
        assert python.run("x") == "1"
        assert python.pid == pid
