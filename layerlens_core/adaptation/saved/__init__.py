"""Adapters on disk: read and compared with a model before anything is allocated or changed."""
