"""`python -m models.kernels`: build the kernels now instead of at their first use."""

import sys

from models.kernels.build import KERNELS, BuildError, build

try:
    for kernel in KERNELS:
        print(f"{kernel}: {build(kernel)}")
except BuildError as error:
    sys.exit(f"error: {error}")
