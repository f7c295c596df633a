"""`python -m training fit|validate|test --config RECIPE.yaml [--data DIR] [--section.option value]`."""

import os

# GNU OpenMP reads it when torch loads it. Its threads spin for milliseconds at each of the thousands of
# barriers of a long sequence; as soon as another process wants a core that costs many times the arithmetic.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from training.cli import main

if __name__ == "__main__":
    main()
