"""The benchmarks of skoptax: ``python -m benchmarks``.

Each module of `benchmarks.rows` measures one row of the performance table, beside
what a user might pick instead, and checks that all sides found the same answer.
`benchmarks.scripts` holds what has to run in a process of its own. The figures go to
``docs/performance/results.json``, and from there into a table and plots.
"""
