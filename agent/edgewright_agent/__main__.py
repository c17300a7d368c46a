"""`python -m edgewright_agent`: the same as the command `edgewright-agent`."""

from edgewright_agent.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
