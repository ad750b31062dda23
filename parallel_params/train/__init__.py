"""Training from a job file: config, data, models, the loop and its report.

Import what you need from the modules; this package imports nothing by itself, so that
pydantic is loaded only by those who read a job.
"""
