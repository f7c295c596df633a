"""`python -m service keys new`: make an API key."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from service.http.keys import Access, KeyFileError, add


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m service keys",
        description="API keys. A server that is started with --api-keys asks for them.",
    )
    commands = parser.add_subparsers(required=True)
    new = commands.add_parser("new", help="make a key, print it, and add its hash to the file")
    new.add_argument("name", help="whose key it is, as the log will tell it")
    new.add_argument("--file", type=Path, required=True, help="the file of keys; made if it is not there")
    new.add_argument(
        "--scope",
        action="append",
        choices=[*Access],
        help="what it is for; may be given twice; default: infer",
    )
    new.add_argument("--rate", type=float, help="requests a second that it may make; default: without limit")
    new.add_argument("--burst", type=int, help="requests that it may make at once; default: a second's")
    options = parser.parse_args(arguments)
    scopes = frozenset(map(Access, options.scope or [Access.INFER]))
    try:
        key = add(options.file, options.name, scopes, options.rate, options.burst)
    except (KeyFileError, ValidationError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else None
        print(f"{problem['loc'][0]}: {problem['msg']}" if problem else error, file=sys.stderr)
        return 1
    print(key)
    print(f"The key is kept nowhere; its hash is in {options.file}.", file=sys.stderr)
    return 0
