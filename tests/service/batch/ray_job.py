"""A job for Ray Data on this machine alone: ray_job.py OUT FILE_OR_FOLDER..."""

import sys

import ray

from service.batch.ray_data import classify_files

if __name__ == "__main__":
    out, *paths = sys.argv[1:]
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    classify_files(paths, model="digits", batch_size=16).write_parquet(out)
    ray.shutdown()
