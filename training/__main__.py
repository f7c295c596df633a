"""`python -m training fit|validate|test --config RECIPE.yaml [--data DIR] [--section.option value]`,
`python -m training curves RUN [RUN ...] --out NAME`, `python -m training gradients`,
`python -m training speakers` and `python -m training sweep --config RECIPE.yaml --mu 0 0.9 --epsilon 0.1 1`.
"""

import os
import sys

# GNU OpenMP reads it when torch loads it. Its threads spin for milliseconds at each of the thousands of
# barriers of a long sequence; as soon as another process wants a core that costs many times the arithmetic.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def main() -> int:
    """Run the command; each is imported alone, for Lightning takes seconds."""
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command == "curves":
        from training import curves

        return curves.main(arguments)
    if command == "sweep":
        try:
            from training import sweep
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            print(
                "error: sweeps need Optuna: in the project's folder, pip install -e '.[sweep]'",
                file=sys.stderr,
            )
            return 1
        return sweep.main(arguments)
    from training.allocator import keep_freed_memory

    keep_freed_memory()
    if command == "gradients":
        from training import gradients

        return gradients.main(arguments)
    if command == "speakers":
        from training import speakers

        return speakers.main(arguments)
    from training import cli

    cli.main(sys.argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
