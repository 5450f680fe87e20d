"""The sweep over the model classes of transformers: built tiny, profiled, and compared with plain backward passes.

``classes`` lists them by task, ``small`` shrinks a configuration, ``models`` builds one, ``samples`` gives it something
to read, ``truth`` is the slow and obvious reference, ``compare`` holds a profile against it, and ``table`` counts.
"""
