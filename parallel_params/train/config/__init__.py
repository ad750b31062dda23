"""A job: one TOML file per run, checked whole before anything starts.

pydantic is imported here and nowhere else but on the command line.
"""

from parallel_params.train.config.dump import dump_job
from parallel_params.train.config.job import Job
from parallel_params.train.config.load import load_job
from parallel_params.train.config.reference import Key, keys, schema, schema_text
from parallel_params.train.config.sizes import format_bytes, parse_bytes

__all__ = [
    "Job",
    "Key",
    "dump_job",
    "format_bytes",
    "keys",
    "load_job",
    "parse_bytes",
    "schema",
    "schema_text",
]
