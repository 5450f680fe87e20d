"""Tiny random models of many families, and what can be done with each.

To add a family, write one `Specimen` into the module of its kind, run ``pytest tests/models/test_families.py``, and
write the table anew as the failing test says.
"""

from families import decoders, encoder_decoders, encoders, mixtures, speech, vision
from families.specimen import Specimen

#: Every family by its name, in the order of the table.
SPECIMENS: dict[str, Specimen] = {
    specimen.name: specimen
    for module in (decoders, mixtures, encoders, encoder_decoders, vision, speech)
    for specimen in module.SPECIMENS
}
