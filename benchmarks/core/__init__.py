"""The C++ core's batch functions beside others that do the same with the same data, in the same run.

`python -m benchmarks.core` prints all the tables; see `__main__`.
"""
