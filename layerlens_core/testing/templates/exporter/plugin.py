"""An exporter for LayerLens: an initialised adapter, and a file of keys for a trainer."""

from collections.abc import Iterable

from layerlens_core.plugin import Export, ExporterProvider, hookimpl


def _load() -> Export:
    from layerlens_plugin_example_name.export import export

    return export


@hookimpl
def layerlens_exporters() -> Iterable[ExporterProvider]:
    yield ExporterProvider(
        name="example-name",
        summary="an initialised adapter and the keys with which a trainer goes on from it",
        load=_load,
    )
