"""Many videos overnight: every job gets a record, an answer or a reason.

jobs      lines -> jobs, all checked before any is run (settings: what a job may say)
keys      what a job is known by when a run goes on, and which shard does it
results   the file of records: locked, appended line by line, cut where a power cut tore it
worker    the process that holds the models and does one job after the other
keeper    starts the worker, waits for it, kills it when a job takes too long, tells what it died of
run       the loop over the jobs

All but the worker imports neither torch nor PyAV: what crashes, hangs or eats memory is in the other process.
"""
