"""A run of Crew in which all that can break breaks, and a checker of what is left.

    python -m tests.chaos --tasks 5000 --kills 60 --seed 1 [--database postgresql|sqlite]

`plan` says which groups there are, `worker` does their tasks and logs each call, `client` creates
them and does what people do, `trouble` breaks processes, connections and the database, `fleet`
starts what died again, and `checker` compares the worker's log, what the client was answered, and
the rows. Everything random comes from the seed; the machine's timing does not.
"""
