"""``python -m layerlens_core`` is the ``layerlens`` command."""

from layerlens_core.cli import main

main(prog_name="layerlens")
