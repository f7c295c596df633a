#!/bin/sh
# Remove what serving never runs from the virtual environment: the packages' own tests, and tools that come with
# onnxruntime to convert models.
set -eu
cd /opt/venv/lib/python3*/site-packages
find numpy -type d -name tests -prune -exec rm -r {} +
rm -r onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets
find . -name '*.pyx' -delete
