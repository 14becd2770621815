"""One module a stage: the tasks it adds to a plan, and how each is made.

Heavy imports are inside the functions that make things, so that a plan needs none of them.
"""
