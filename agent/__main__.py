"""``python -m ncode_search.agent`` is the command ``ncode``."""

from ncode_search.agent.cli import main

main()
