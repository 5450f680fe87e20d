"""For all tests: no hub, no clock, and one thread, since models are tiny and threads only wait for one another."""

import os

from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

# On a busy machine examples are slow, which says nothing about the code.
settings.register_profile("layerlens", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("layerlens")
