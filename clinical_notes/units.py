"""The table that passes from the annotated notes to the labelled examples: one row per unit of text."""

from typing import Literal

import pyarrow as pa

UnitKind = Literal["note", "sentence"]

GROUP = "group_"
"""Begins the names of columns that examples are grouped by."""

AFFIRMED, NEGATED, OTHER = "affirmed", "negated", "other"
"""How a mention is asserted; OTHER is not about the patient now (family, hypothetical)."""

MENTION = pa.struct(
    [
        pa.field("concept", pa.string()),
        pa.field("assertion", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
    ]
)

UNITS = pa.schema(
    [
        pa.field("note", pa.int64()),  # 0-based data row of the source table
        pa.field("sentence", pa.int32()),  # index within the note; 0 for unit = note
        pa.field("patient", pa.string()),
        pa.field("category", pa.string()),
        pa.field("groups", pa.list_(pa.string())),  # values of the columns to group by, in order
        pa.field("text", pa.string()),  # cleaned
        pa.field("mentions", pa.list_(MENTION)),  # in order of appearance, offsets into the cleaned text
    ]
)
