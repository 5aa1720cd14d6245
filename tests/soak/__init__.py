"""`make soak`: one search that runs for hours, is hurt every few seconds, and is judged at its end.

A search on a table, whose evaluations sleep for a while, with four workers and the packaged model through llama.cpp.
`subject` is that search; `faults` has what is done to it, in a random order that its seed decides; `soak` does it, and
starts the agent again where that died, as a service manager would; `samples` watches memory and progress; `report`
prints it all. When the time is over the search is asked to complete some trials more, undisturbed, and then judged by
`tests.faults.invariants`, which reads the SQLite file and the evaluators' own log and nothing else.

Nothing is a matter of speed: a slow machine has fewer trials, and all else must be as true.
"""
