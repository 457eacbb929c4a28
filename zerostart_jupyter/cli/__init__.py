"""The `zerostart` command: one module a command, imported only when it runs."""
